"""From settings to a backend: the only place that knows which backend is running."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy.engine import URL

from amphibase.accounts.jwt.key_ring import KeyRing, load_keys
from amphibase.accounts.previous_passwords import PreviousProject
from amphibase.backend import Backend
from amphibase.backend.combined import CombinedBackend
from amphibase.errors import ConfigurationError
from amphibase.messages.hub import MessageHub
from amphibase.settings.application import PARTS, BackendName, Part, Settings, load_settings
from amphibase.sql.backend import SqlBackend


def _build_sql(settings: Settings, keys: KeyRing, database: URL | None) -> Backend:
    return SqlBackend(settings, keys, database, _previous_project(settings, database))


def _previous_project(settings: Settings, database: URL | None) -> PreviousProject | None:
    """Return the project that the accounts of a database have come from."""
    url, key = settings.previous_supabase_url, settings.previous_supabase_key
    if url is None or key is None or database != settings.database_of("accounts"):
        return None
    try:
        from amphibase.supabase.previous_project import PreviousSupabaseProject
    except ImportError:
        raise ConfigurationError(
            "PREVIOUS_SUPABASE_URL: needs Supabase's client: pip install 'amphibase[supabase]'"
        ) from None
    return PreviousSupabaseProject(url, key.get_secret_value())


def _build_supabase(settings: Settings, keys: KeyRing, database: URL | None) -> Backend:
    try:
        from amphibase.supabase.backend import SupabaseBackend
    except ImportError:
        raise ConfigurationError(
            "BACKEND: supabase needs Supabase's client: pip install 'amphibase[supabase]'"
        ) from None
    return SupabaseBackend(settings, keys)


BACKENDS: dict[BackendName, Callable[[Settings, KeyRing, URL | None], Backend]] = {
    "sql": _build_sql,
    "supabase": _build_supabase,
}
"""How each backend is built: from the settings, the keys, and for SQL its database."""


def build_backend(settings: Settings, keys: KeyRing) -> Backend:
    """Build the backend that the settings name, or a combination of several.

    It opens nothing until it is used.

    Raises:
        ConfigurationError: a setting of the backend, or a library that it needs, is missing.
    """
    parts: dict[Part, Backend] = {}
    built: dict[tuple[BackendName, URL | None], Backend] = {}
    for part in PARTS:
        database = settings.database_of(part)
        # What can be reached as a database is: such as the records of a Supabase project.
        name = settings.backend_of(part) if database is None else "sql"
        if (name, database) not in built:
            built[name, database] = BACKENDS[name](settings, keys, database)
        parts[part] = built[name, database]
    messages = _build_messages(settings, parts["records"])
    if len(built) == 1 and messages is None:
        return parts["records"]
    return CombinedBackend(**parts, messages=messages)


def _build_messages(settings: Settings, records: Backend) -> MessageHub | None:
    """Return what carries messages where the records' backend is not to do it."""
    url = settings.messages_url.get_secret_value()
    if not url:
        return None
    try:
        from amphibase.messages.redis import RedisMessages, RedisPresences
    except ImportError:
        raise ConfigurationError(
            "MESSAGES_URL: Redis needs its client: pip install 'amphibase[redis]'"
        ) from None
    transport, presences = RedisMessages(url), RedisPresences(url)
    return MessageHub(
        transport,
        presences,
        records,
        settings.max_queued_messages,
        check=transport.check,
        closing=(transport.close, presences.close),
    )


@asynccontextmanager
async def open_backend(
    settings: Settings | None = None, *, keys: KeyRing | None = None
) -> AsyncIterator[Backend]:
    """Open a backend for as long as the block lasts, in a job, a script or an application.

    In development, missing tables are created.

    Args:
        settings: read from the environment and `.env` by default.
        keys: those of the settings by default.

    Raises:
        ConfigurationError: a setting is wrong, or in production the database is behind; says what
            to do.
        Unavailable: the database cannot be reached.
    """
    settings = settings or load_settings()
    backend = build_backend(settings, keys or load_keys(settings))
    try:
        await backend.start()
        yield backend
    finally:
        await backend.close()
