"""Where settings of a project and references in `supabase/config.toml` are read from."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from amphibase.errors import ConfigurationError


def settings_environment() -> Mapping[str, str | None]:
    """Return the variables that settings are read from: the environment and `.env`."""
    return {**dotenv_values(".env"), **os.environ}


def referable_environment(folder: Path) -> Mapping[str, str | None]:
    """Return what `env(NAME)` may stand for: the environment, and the files that the Supabase CLI
    reads (`loadNestedEnv` in its `pkg/config/config.go`).

    Args:
        folder: `supabase`, whose files win over those of the project's folder.

    Raises:
        ConfigurationError: a file is not UTF-8 text.
    """
    stage = os.environ.get("SUPABASE_ENV") or "development"
    names = [".env", f".env.{stage}", ".env.local", f".env.{stage}.local"]
    if stage == "test":
        names.remove(".env.local")
    values: dict[str, str | None] = {}
    for place in (folder.parent, folder):
        for name in names:
            try:
                values |= dotenv_values(place / name)
            except UnicodeDecodeError:
                raise ConfigurationError(f"{place / name}: is not UTF-8 text") from None
    return {**values, **os.environ}
