"""Finds variables that were meant as settings: a misspelt one has no effect, and is not seen."""

import os

from amphibase.settings.application import PREFIX, Settings
from amphibase.settings.loading import nearest_setting, variables


def misspelt_variables(kind: type[Settings]) -> list[str]:
    """Return the variables of the environment and `.env` that begin with the prefix of settings,
    or have almost the name of one, and are none, sorted; each with the setting that may be meant.

    Args:
        kind: `Settings`, or an application's own class of them.
    """
    from dotenv import dotenv_values

    known = {name for field in kind.model_fields for name in variables(kind, field)}
    read = {name.upper() for name in (*dotenv_values(".env"), *os.environ)}
    found = []
    for name in sorted(read - known):
        meant = nearest_setting(name, known - read)
        if meant or name.startswith(PREFIX):
            found.append(f"{name} ({meant}?)" if meant else name)
    return found
