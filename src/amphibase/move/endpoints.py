"""The two ends of a move: their addresses, and what they are opened with.

An address has no secret and is in the plan. What opens it is in the environment: in the variables
of its role (`SOURCE_DATABASE_URL`, `TARGET_SUPABASE_SERVICE_KEY` …), else in the application's
own, as long as those are of the same address; for a password also where libpq looks for one.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict
from sqlalchemy.engine import URL

from amphibase.database.url import database_address, parse_url
from amphibase.errors import ConfigurationError
from amphibase.settings.application import Settings, load_settings
from amphibase.settings.loading import LoadedSettings, load


class Role(StrEnum):
    """Which end of the move; also the prefix of its variables, as in `SOURCE_DATABASE_URL`."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def opposite(self) -> "Role":
        return Role.TARGET if self is Role.SOURCE else Role.SOURCE


@dataclass(frozen=True, slots=True)
class SqlEndpoint:
    """A SQLite or Postgres database, and the store of its files.

    Args:
        database: with the password.
        files: where the bytes of files are, as the setting FILES_URL.
    """

    role: Role
    database: URL = field(repr=False)
    files: str = field(repr=False)

    @property
    def is_postgres(self) -> bool:
        return self.database.get_backend_name() == "postgresql"

    @property
    def address(self) -> str:
        """What the plan calls it: without a secret."""
        return f"sql:{database_address(self.database)}"


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
    database: URL | None = field(repr=False, default=None)

    @property
    def address(self) -> str:
        """What the plan calls it: without a secret."""
        return f"supabase:{self.url}"


Endpoint = SqlEndpoint | SupabaseEndpoint


class EndSettings(LoadedSettings):
    """The variables of one role."""

    database_url: SecretStr | None = None
    files_url: SecretStr | None = None
    supabase_url: str | None = None
    supabase_service_key: SecretStr | None = None
    supabase_jwt_secret: SecretStr | None = None
    supabase_db_url: SecretStr | None = None


class SourceSettings(EndSettings):
    model_config = SettingsConfigDict(env_prefix="SOURCE_")


class TargetSettings(EndSettings):
    model_config = SettingsConfigDict(env_prefix="TARGET_")


def parse_endpoint(
    text: str, role: Role, *, files: str | None = None, database: str | None = None
) -> Endpoint:
    """Read an address, and from the environment what opens it.

    Args:
        text: `sql:URL`, or `sql` for the application's own database; `supabase:URL`, or `supabase`
            for the project of `SUPABASE_URL`.
        files: the address of a SQL end's files, where a plan names it.
        database: the URL of a Supabase end's database, with or without a password.

    Raises:
        ConfigurationError: the address is not understood, or a variable is missing or of another
            address; names the variable.
    """
    kind, _, url = text.partition(":")
    own = load(SourceSettings if role is Role.SOURCE else TargetSettings)
    application = load_settings()
    if kind == "sql":
        return SqlEndpoint(
            role,
            _sql_database(url, role, own, application),
            _file_store(files, own, application),
        )
    if kind == "supabase":
        return _supabase(url, database, role, own, application)
    raise ConfigurationError(
        f"{kind!r} is not an end of a move; write sql for the database of DATABASE_URL, or "
        "sql:URL for another one; supabase for the project of SUPABASE_URL, or supabase:URL, as in "
        "supabase:https://abcdefgh.supabase.co"
    )


def files_address(url: str) -> str:
    """Write the URL of a store of files without its options, which may be secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _sql_database(text: str, role: Role, own: EndSettings, application: Settings) -> URL:
    url = _named_database(text, role, own, application)
    if _names_no_file(url):
        raise ConfigurationError(
            f"The {role}'s address has mode=memory, vfs or immutable: a move needs the file itself,"
            " as in sqlite:////folder/app.db"
        )
    return url


def _named_database(text: str, role: Role, own: EndSettings, application: Settings) -> URL:
    variable = f"{role.upper()}_DATABASE_URL"
    named = _database(variable, own.database_url)
    if not text:
        return _absolute(named or application.database)
    planned = _absolute(_parse(text, f"The {role}'s address"))
    if named is not None:
        return _same_address(planned, _absolute(named), variable)
    own_database = _absolute(application.database)
    if planned.password is None and database_address(own_database) == database_address(planned):
        return own_database
    return planned


def _supabase(
    text: str, database: str | None, role: Role, own: EndSettings, application: Settings
) -> SupabaseEndpoint:
    prefix = role.upper()
    url = (text or own.supabase_url or application.supabase_url or "").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"The {role}'s project has no address: write supabase:https://abcdefgh.supabase.co, or "
            f"set {prefix}_SUPABASE_URL or SUPABASE_URL"
        )
    if "@" in url or "?" in url or "#" in url:
        raise ConfigurationError(
            f"The {role}'s project has a password, a query or a fragment in its address: write "
            "the address alone, as in supabase:https://abcdefgh.supabase.co, and the secret key "
            f"in {prefix}_SUPABASE_SERVICE_KEY"
        )
    # The keys of one project are never sent to another.
    general = application.supabase_url in (None, url)
    key = own.supabase_service_key or (application.supabase_service_key if general else None)
    if key is None:
        raise ConfigurationError(
            f"{prefix}_SUPABASE_SERVICE_KEY or SUPABASE_SERVICE_KEY: {url} is opened with its "
            "secret key, which the project's dashboard has under Settings, API keys"
        )
    secret = own.supabase_jwt_secret or (application.supabase_jwt_secret if general else None)
    variable = f"{prefix}_SUPABASE_DB_URL" if own.supabase_db_url else "SUPABASE_DB_URL"
    direct = own.supabase_db_url or (application.supabase_db_url if general else None)
    reached = _database(variable, direct)
    if database is not None:
        planned = _parse(database, "The address of the project's database")
        reached = planned if reached is None else _same_address(planned, reached, variable)
    return SupabaseEndpoint(role, url, key, secret, reached)


def _file_store(address: str | None, own: EndSettings, application: Settings) -> str:
    stores = [application.file_store]
    if own.files_url is not None:
        stores.insert(0, own.files_url.get_secret_value())
    if address is None:
        return stores[0]
    return next((store for store in stores if files_address(store) == address), address)


def _database(variable: str, secret: SecretStr | None) -> URL | None:
    return _parse(secret.get_secret_value(), f"{variable}:") if secret else None


def _parse(text: str, subject: str) -> URL:
    try:
        return parse_url(text)
    except ValueError as error:
        raise ConfigurationError(f"{subject} {error}") from None


def _absolute(url: URL) -> URL:
    """Return a SQLite URL with the whole path, also of a `file:` URI, so that a plan is the same in
    every folder and all stages open the same file (SQLite docs, "Uniform Resource Identifiers")."""
    if url.get_backend_name() != "sqlite" or _names_no_file(url):
        return url
    path = url.database or ""
    if url.query.get("uri"):
        path = unquote(urlsplit(path).path)
        url = url.difference_update_query(["uri", "mode", "cache"])
    return url.set(database=str(Path(path).absolute()))


def _names_no_file(url: URL) -> bool:
    """Whether a SQLite database is more, or less, than a file that anybody may open."""
    options = url.query
    return options.get("mode") == "memory" or "vfs" in options or "immutable" in options


def _same_address(planned: URL, named: URL, variable: str) -> URL:
    """Return the one with the password; both must be of the same database."""
    if database_address(planned) != database_address(named):
        raise ConfigurationError(
            f"{variable} is of {database_address(named)}, and the plan of "
            f"{database_address(planned)}; set it to the plan's, or plan anew"
        )
    return planned if planned.password is not None else named
