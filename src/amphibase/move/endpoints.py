"""The two ends of a move: their addresses, and what they are opened with."""

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import SecretStr
from sqlalchemy.engine import URL


class Role(StrEnum):
    """Which end of the move; also the prefix of its variables, as in `SOURCE_DATABASE_URL`."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class SqlEndpoint:
    """A SQLite or Postgres database, and the store of its files.

    Args:
        database: with the password.
        files: where the bytes of files are, as the setting FILES says it.
    """

    role: Role
    database: URL
    files: str

    @property
    def is_postgres(self) -> bool:
        return self.database.get_backend_name() == "postgresql"


@dataclass(frozen=True, slots=True)
class SupabaseEndpoint:
    """A Supabase project, by its API and, where it is known, by its database.

    Args:
        url: of the API, without a path.
        service_key: a secret key or the service role's JWT.
        jwt_secret: signs tokens of users; None where the project's keys are asymmetric or unknown.
        database: direct or through a pooler, with the password; None without one.
    """

    role: Role
    url: str
    service_key: SecretStr = field(repr=False)
    jwt_secret: SecretStr | None = field(repr=False, default=None)
    database: URL | None = None


Endpoint = SqlEndpoint | SupabaseEndpoint
