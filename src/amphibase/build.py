"""From settings to a backend: the only place that knows which home is running."""

from amphibase.errors import ConfigurationError
from amphibase.settings import Settings
from amphibase.sql.backend import SqlBackend
from amphibase.tokens import KeyRing


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
    if settings.rls:
        raise ConfigurationError(
            "RLS: row level security is not in this version yet; set RLS=false"
        )
    return SqlBackend(settings, keys)
