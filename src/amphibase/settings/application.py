"""Everything that is read from the environment and `.env`, checked at start.

The names are the ones everybody uses (`DATABASE_URL`, `SECRET_KEY`, `SUPABASE_URL` …); each is also
read with the prefix `AMPHIBASE_`, which wins. A wrong value becomes one readable line.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    AliasGenerator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from amphibase.rate_limits import RateLimits
from amphibase.settings.loading import CommaSeparated, Networks, check_lines, load
from amphibase.settings.oauth import OAuthSettings
from amphibase.settings.published_secrets import has_published_password, is_published

if TYPE_CHECKING:  # the rest is imported where it is needed, since commands wait for this page
    from sqlalchemy.engine import URL

    from amphibase.database.engine import PoolOptions

BackendName = Literal["sql", "supabase"]
Verify = Literal["local", "remote"]
Part = Literal["records", "accounts", "files"]
PARTS: tuple[Part, ...] = ("records", "accounts", "files")

FILE_SCHEMES = ("file", "s3", "gs", "az")

ROUTES_PREFIX = "(/[A-Za-z0-9._~-]+)*"
"""A path without a slash at its end; empty for the root."""

MIN_SECRET_BYTES = 32
"""HS256 keys shorter than the hash are rejected (RFC 7518, section 3.2)."""


PREFIX = "AMPHIBASE_"


def _names(field: str) -> AliasChoices:
    name = field.upper()
    return AliasChoices(f"{PREFIX}{name}", name)


class Settings(OAuthSettings):
    """The whole configuration; build it with `load_settings()` to get readable errors."""

    model_config = SettingsConfigDict(alias_generator=AliasGenerator(validation_alias=_names))

    environment: Literal["development", "production"] = Field(
        "development", examples=["production"]
    )
    data_dir: Path = Field(Path("./data"), examples=["./data"])
    public_url: str = Field("http://127.0.0.1:8000", examples=["https://api.example.com"])
    routes_prefix: str = Field("", pattern=f"^{ROUTES_PREFIX}$", examples=["/api"])

    backend: BackendName = Field("sql", examples=["sql"])
    records: BackendName | None = Field(None, examples=["sql"])
    accounts: BackendName | None = Field(None, examples=["sql"])
    files: BackendName | None = Field(None, examples=["sql"])

    database_url: SecretStr = Field(
        SecretStr(""),
        examples=["postgresql://user:password@localhost:5432/app or sqlite:///./data/app.db"],
    )
    accounts_database_url: SecretStr = Field(
        SecretStr(""), examples=["postgresql://user:password@localhost:5432/accounts"]
    )
    files_database_url: SecretStr = Field(
        SecretStr(""), examples=["postgresql://user:password@localhost:5432/files"]
    )
    database_echo: bool = Field(False, examples=["false"])
    pool_size: int = Field(20, ge=1, le=1000, examples=["20"])
    max_overflow: int = Field(0, ge=0, le=1000, examples=["0"])
    pool_recycle: int = Field(3600, ge=-1, examples=["3600"], description="seconds")
    pool_mode: Literal["session", "transaction"] | None = Field(None, examples=["transaction"])
    rls: bool | None = Field(None, examples=["true"])
    body_timeout: int = Field(60, ge=1, le=3600, examples=["60"], description="seconds")
    max_page_mb: int = Field(8, ge=1, le=1000, examples=["8"], description="MiB")
    max_related_filters: int = Field(4, ge=0, le=64, examples=["4"])
    max_streams: int = Field(10_000, ge=1, examples=["10000"])
    max_streams_per_caller: int = Field(20, ge=1, examples=["20"])
    messages_url: SecretStr = Field(SecretStr(""), examples=["redis://localhost:6379/0"])
    max_queued_messages: int = Field(256, ge=1, le=100_000, examples=["256"])
    change_log_hours: int = Field(24, ge=1, le=24 * 365, examples=["24"])
    migrations_dir: Path = Field(Path("./migrations"), examples=["./migrations"])

    files_url: SecretStr = Field(
        SecretStr(""), examples=["file:///var/lib/app/files or s3://bucket/folder?region=eu-west-1"]
    )
    max_upload_mb: int = Field(50, ge=1, le=5_000_000, examples=["50"], description="MiB")
    max_unfinished_uploads: int = Field(1000, ge=1, examples=["1000"])
    max_unfinished_uploads_per_user: int = Field(20, ge=1, examples=["20"])
    allowed_types: CommaSeparated = Field((), examples=["image/*,application/pdf"])

    supabase_url: str | None = Field(None, examples=["https://abcdefgh.supabase.co"])
    supabase_anon_key: SecretStr | None = Field(None, examples=["the anon key of the project"])
    supabase_service_key: SecretStr | None = Field(None, examples=["the service_role key"])
    supabase_jwt_secret: SecretStr | None = Field(None, examples=["the project's JWT secret"])
    supabase_db_url: SecretStr | None = Field(
        None, examples=["postgresql://postgres:password@db.abcdefgh.supabase.co:5432/postgres"]
    )
    previous_supabase_url: str | None = Field(None, examples=["https://abcdefgh.supabase.co"])
    previous_supabase_key: SecretStr | None = Field(None, examples=["the anon key of that project"])
    verify: Verify | None = Field(None, examples=["remote"])

    secret_key: SecretStr | None = Field(None, examples=["the output of: openssl rand -base64 48"])
    jwt_key_file: Path | None = Field(None, examples=["./keys.json (amphibase keys generate)"])
    access_token_minutes: int = Field(15, ge=1, le=60 * 24 * 7, examples=["15"])
    refresh_token_days: int = Field(30, ge=1, le=3650, examples=["30"])
    refresh_reuse_seconds: int = Field(10, ge=0, le=300, examples=["10"])
    password_min_length: int = Field(8, ge=6, le=128, examples=["8"])
    email_confirmation: Literal["off", "required"] = Field("off", examples=["required"])
    sign_up: Literal["open", "invited", "closed"] = Field("open", examples=["invited"])
    sign_up_domains: CommaSeparated = Field((), examples=["example.com,example.org"])
    confirmation_asks_password: bool = Field(False, examples=["true"])
    hook_timeout_seconds: float = Field(5, gt=0, le=60, examples=["5"])
    mail_url: SecretStr | None = Field(
        None, examples=["smtp://user:password@mail.example.com:587?from=hello@example.com"]
    )

    fast_path: bool = Field(True, examples=["true"])

    cors_origins: CommaSeparated = Field((), examples=["https://example.com,https://b.example"])
    trusted_proxies: Networks = Field((), examples=["10.0.0.0/8,127.0.0.1"])
    rate_limits: Annotated[RateLimits, NoDecode] = Field(
        default_factory=lambda: RateLimits.parse(RateLimits.DEFAULT),
        examples=["sign-in=10/minute, sign-up=60/minute, forgot=off"],
    )
    rate_limit_url: SecretStr = Field(SecretStr("memory://"), examples=["redis://localhost:6379/0"])

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise ValueError("each origin must start with http:// or https://")
        return value

    @field_validator("rate_limits", mode="plain")
    @classmethod
    def _rate_limits(cls, value: Any) -> RateLimits:
        return value if isinstance(value, RateLimits) else RateLimits.parse(str(value))

    @field_validator("rate_limit_url")
    @classmethod
    def _rate_limit_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("memory://", "redis://", "rediss://")):
            raise ValueError("must start with memory://, redis:// or rediss://")
        _check_place(value.get_secret_value())
        return value

    @field_validator("messages_url")
    @classmethod
    def _messages_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            if not value.get_secret_value().startswith(("redis://", "rediss://")):
                raise ValueError("must start with redis:// or rediss://")
            _check_place(value.get_secret_value())
        return value

    @field_validator("public_url", "supabase_url", "previous_supabase_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        _check_place(value or "")
        return value.rstrip("/") if value else value

    @field_validator("mail_url")
    @classmethod
    def _mail_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("smtp://", "smtps://", "file://")):
            raise ValueError("must start with smtp://, smtps:// or file://")
        _check_place(value.get_secret_value() if value else "")
        return value

    @field_validator("files_url")
    @classmethod
    def _files_url(cls, value: SecretStr) -> SecretStr:
        scheme, separator, place = value.get_secret_value().partition("://")
        if scheme and not (scheme in FILE_SCHEMES and separator and place.strip("/")):
            raise ValueError("must name a place in file:///, s3://, gs:// or az://")
        return value

    @field_validator("allowed_types")
    @classmethod
    def _types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not re.fullmatch(r"[\w.+-]+/(\*|[\w.+-]+)", pattern):
                raise ValueError("each entry must be a type such as image/png or image/*")
        return tuple(pattern.lower() for pattern in value)

    @field_validator("secret_key")
    @classmethod
    def _long_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
        return value

    @field_validator("database_url", "accounts_database_url", "files_database_url")
    @classmethod
    def _database_url(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            from amphibase.database.url import parse_url

            parse_url(value.get_secret_value())
        return value

    @field_validator("supabase_db_url")
    @classmethod
    def _postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            from amphibase.database.url import parse_url

            if parse_url(value.get_secret_value()).get_backend_name() != "postgresql":
                raise ValueError("must name the project's Postgres")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.environment == "production" and not (self.secret_key or self.jwt_key_file):
            raise ValueError(
                "SECRET_KEY: production needs its own key; set SECRET_KEY to the output of "
                "`openssl rand -base64 48`, or JWT_KEY_FILE to a file of `amphibase keys generate`"
            )
        if self.environment == "production" and (names := self._published()):
            raise ValueError(
                f"{', '.join(names)}: everybody has this value, which is a default of development "
                "or an example; production needs its own (openssl rand -base64 48 makes a secret)"
            )
        if (self.previous_supabase_url is None) != (self.previous_supabase_key is None):
            raise ValueError(
                "PREVIOUS_SUPABASE_URL, PREVIOUS_SUPABASE_KEY: set both of them, or neither"
            )
        if self.backend_of("records") == "supabase":
            if self.rls is False:
                raise ValueError(
                    "RLS: the tables of a Supabase project are served to everybody with its "
                    "anonymous key, and policies alone guard them; leave RLS unset or set RLS=true"
                )
            object.__setattr__(self, "rls", True)  # before anybody has read it
        records = self.database_of("records")
        if self.rls and records is not None and records.get_backend_name() == "sqlite":
            raise ValueError("RLS: SQLite has no row level security; set RLS=false or use Postgres")
        return self

    def _published(self) -> list[str]:
        """Return the names of the settings whose values everybody has."""
        checks: dict[str, Callable[[str], bool]] = {
            "secret_key": is_published,
            "supabase_anon_key": is_published,
            "supabase_service_key": is_published,
            "supabase_jwt_secret": is_published,
            "previous_supabase_key": is_published,
            "database_url": has_published_password,
            "accounts_database_url": has_published_password,
            "files_database_url": has_published_password,
            "supabase_db_url": has_published_password,
        }
        values: dict[str, SecretStr | None] = {name: getattr(self, name) for name in checks}
        return [
            name.upper()
            for name, value in values.items()
            if value is not None and checks[name](value.get_secret_value())
        ]

    @property
    def database(self) -> "URL":
        """The database of the records, as SQLAlchemy addresses it, with Amphibase's driver."""
        from amphibase.database.url import parse_url

        text = self.database_url.get_secret_value()
        return parse_url(text or f"sqlite:///{self.data_dir / 'amphibase.db'}")

    @property
    def supabase_database(self) -> "URL | None":
        """The database of the Supabase project, where `SUPABASE_DB_URL` names it."""
        from amphibase.database.url import parse_url

        secret = self.supabase_db_url
        return parse_url(secret.get_secret_value()) if secret else None

    @property
    def routes_url(self) -> str:
        """The public URL below which `/auth`, `/users` and `/files` are."""
        return f"{self.public_url}{self.routes_prefix}"

    @property
    def file_store(self) -> str:
        """The URL of the place where the bytes of files are stored."""
        url = self.files_url.get_secret_value()
        return url or f"file://{(self.data_dir / 'files').absolute()}"

    @property
    def max_upload_bytes(self) -> int:
        """The most bytes that a file may have."""
        return self.max_upload_mb * 1024 * 1024

    @property
    def max_page_bytes(self) -> int:
        """The most bytes that the rows of a page may have together."""
        return self.max_page_mb * 1024 * 1024

    @property
    def pool_options(self) -> "PoolOptions":
        """How the database's connections are pooled: half of them read in pipeline mode."""
        from amphibase.database.engine import PoolOptions

        return PoolOptions(
            size=self.pool_size,
            pipelined=self.pool_size // 2,
            max_overflow=self.max_overflow,
            recycle=self.pool_recycle,
            by_transaction=None if self.pool_mode is None else self.pool_mode == "transaction",
            echo=self.database_echo,
        )

    @property
    def access_token_lifetime(self) -> timedelta:
        """How long an access token is good for."""
        return timedelta(minutes=self.access_token_minutes)

    def backend_of(self, part: Part) -> BackendName:
        """Return what keeps a part of the data: its own setting, else `BACKEND`."""
        return getattr(self, part) or self.backend

    def database_of(self, part: Part) -> "URL | None":
        """Return the database of a part of the data; None where it is not stored in SQL.

        Records of a Supabase project are, where `SUPABASE_DB_URL` names its database.
        """
        from amphibase.database.url import parse_url

        if self.backend_of(part) != "sql":
            return self.supabase_database if part == "records" else None
        own = {"accounts": self.accounts_database_url, "files": self.files_database_url}.get(part)
        text = own.get_secret_value() if own else ""
        return parse_url(text) if text else self.database

    def parts_in(self, database: "URL") -> frozenset[Part]:
        """Return the parts of the data whose tables are in a database."""
        return frozenset(part for part in PARTS if self.database_of(part) == database)

    @property
    def databases(self) -> "tuple[URL, ...]":
        """Every SQL database of the application once, that of the records first."""
        urls = dict.fromkeys(self.database_of(part) for part in PARTS)
        return tuple(url for url in urls if url is not None)


def _check_place(url: str) -> None:
    """Raise ValueError, without repeating it, for a URL whose host or port is none."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ValueError("must have a host and, as its port, a number up to 65535") from None


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`.

    Args:
        overrides: values by field name that win over the environment.

    Raises:
        ConfigurationError: one line for each wrong value: the variable, the fault, an example.
    """
    check_lines(Path(".env"))
    return load(Settings, **overrides)
