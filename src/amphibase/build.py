"""From settings to a backend: the only place that knows which home is running."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amphibase.accounts.jwt.key_ring import KeyRing, load_keys
from amphibase.errors import ConfigurationError
from amphibase.models import Base
from amphibase.schema.commands import ensure, require_current
from amphibase.settings import Settings, load_settings
from amphibase.sql.backend import SqlBackend


def build_backend(settings: Settings, keys: KeyRing) -> SqlBackend:
    """The backend that the settings name.

    Raises:
        ConfigurationError: the home is not there in this version.
    """
    for part in ("records", "accounts", "files"):
        if settings.home(part) == "supabase":
            raise ConfigurationError(
                f"{part.upper()}: the Supabase home is not in this version yet; use BACKEND=sql"
            )
    return SqlBackend(settings, keys)


@asynccontextmanager
async def open_backend(
    settings: Settings | None = None, *, keys: KeyRing | None = None
) -> AsyncIterator[SqlBackend]:
    """A backend for as long as the block lasts: for jobs and scripts, and under an application.

    In development, the tables that are missing are made.

    Args:
        settings: read from the environment and `.env` where not given.
        keys: those of the settings where not given.

    Raises:
        ConfigurationError: a setting is wrong, or in production the database is behind; says what
            to do.
        Unavailable: the database cannot be reached.
    """
    settings = settings or load_settings()
    backend = build_backend(settings, keys or load_keys(settings))
    try:
        if settings.environment == "development":
            await ensure(backend.database, settings, Base.metadata)
        else:
            await require_current(backend.database, settings, Base.metadata)
        yield backend
    finally:
        await backend.close()
