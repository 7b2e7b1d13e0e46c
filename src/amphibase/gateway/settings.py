"""The settings that all services of the gateway share, from the environment and `.env`.

The names are those of Supabase's own configuration, so that a self-hoster's file works; what is the
gateway's alone begins with `GATEWAY_`. Each package of a service has that service's settings.
"""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from amphibase.gateway.keys import ApiKeys, S3Credentials, api_key, claims_of, s3_credentials
from amphibase.gateway.project_settings import EnvironmentSettings, ProjectSettings
from amphibase.loopback import is_loopback
from amphibase.request_body import BODY_SECONDS
from amphibase.settings.loading import Networks
from amphibase.settings.published_secrets import (
    CLI_JWT_SECRET,
    CLI_PUBLISHABLE_KEY,
    CLI_SECRET_KEY,
    has_published_password,
    is_published,
    is_published_jwk,
)

API_PORT = 54321
DATABASE_PORT = 54322
INBOX_PORT = 54324
PORTS_TRIED = 100
MIN_SECRET_BYTES = 32

Port = int | None


class DataDirSettings(EnvironmentSettings):
    """Where the data is, which `supabase/config.toml` does not say.

    So a mistake in that file does not keep a gateway that is running from being stopped.
    """

    data_dir: Path = Field(
        Path("./.amphibase"), validation_alias="GATEWAY_DATA_DIR", examples=["./.amphibase"]
    )


class GatewaySettings(DataDirSettings, ProjectSettings):
    """Where the gateway listens, where its data is, and its keys.

    Attributes:
        admin_host, admin_port: of the server that says whether the Data API is ready; without a
            port there is none, and its host is `host` by default.
        port, db_port, inbox_port: None takes the CLI's, or the next that is free; 0 any free one.
        database_url: one's own Postgres, as a superuser; None starts one in `data_dir`.
        jwt_secret: None is development: the CLI's secret and keys, and users' tokens are signed
            by a key that is generated in `data_dir`. If it is set, it signs them too.
        jwt_keys: JSON Web Keys, one of which signs users' tokens; None for the key that
            `jwt_secret` says.
        jwks: a JSON Web Key Set of others, whose tokens are taken too.
        postgrest_secret: what PostgREST takes as a secret: such a set, or the `jwt_secret`, once it
            is decoded where `postgrest_secret_is_base64`.
        authenticator_url: what the Data API connects as; None makes it.
        auto_expose_new_tables: whether new tables of `public` get grants for the roles of the
            Data API; None leaves it as the database has it, and a new one grants nothing.
        s3_protocol_enabled: whether Storage speaks the S3 protocol.
        s3_access_key_id, s3_secret_access_key: who signs its requests as the service, and what
            with; None for those that are made from `jwt_secret`.
        body_timeout: seconds that a client may send nothing in the middle of a request's body.
    """

    host: str = Field("127.0.0.1", validation_alias="GATEWAY_HOST", examples=["127.0.0.1"])
    port: Port = Field(None, ge=0, le=65535, validation_alias="GATEWAY_PORT", examples=["54321"])
    db_port: Port = Field(
        None, ge=0, le=65535, validation_alias="GATEWAY_DB_PORT", examples=["54322"]
    )
    inbox_port: Port = Field(
        None, ge=0, le=65535, validation_alias="GATEWAY_INBOX_PORT", examples=["54324"]
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias="GATEWAY_DATABASE_URL",
        examples=["postgresql://postgres:password@localhost:5432/postgres"],
    )
    authenticator_url: SecretStr | None = Field(
        None,
        validation_alias="PGRST_DB_URI",
        examples=["postgresql://authenticator:password@localhost:5432/postgres"],
    )
    trusted_proxies: Networks = Field(
        (), validation_alias="GATEWAY_TRUSTED_PROXIES", examples=["10.0.0.0/8,127.0.0.1"]
    )
    s3_protocol_enabled: bool = Field(
        True, validation_alias="S3_PROTOCOL_ENABLED", examples=["false"]
    )
    s3_access_key_id: str | None = Field(
        None,
        max_length=256,
        pattern="^[A-Za-z0-9._-]+$",
        validation_alias="S3_PROTOCOL_ACCESS_KEY_ID",
        examples=["0123456789abcdef0123456789abcdef"],
    )
    s3_secret_access_key: SecretStr | None = Field(
        None,
        min_length=16,
        validation_alias="S3_PROTOCOL_ACCESS_KEY_SECRET",
        examples=["64 random hexadecimal digits"],
    )
    body_timeout: int = Field(
        BODY_SECONDS, ge=1, le=3600, validation_alias="GATEWAY_BODY_TIMEOUT", examples=["60"]
    )
    auto_expose_new_tables: bool | None = Field(
        None, validation_alias="GATEWAY_AUTO_EXPOSE_NEW_TABLES", examples=["true"]
    )
    admin_host: str | None = Field(
        None, validation_alias="PGRST_ADMIN_SERVER_HOST", examples=["127.0.0.1"]
    )
    admin_port: Port = Field(
        None, ge=0, le=65535, validation_alias="PGRST_ADMIN_SERVER_PORT", examples=["3001"]
    )
    external_url: str | None = Field(
        None, validation_alias="API_EXTERNAL_URL", examples=["https://api.example.com"]
    )

    jwt_secret: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("JWT_SECRET", "GOTRUE_JWT_SECRET"),
        examples=["the output of: openssl rand -base64 48"],
    )
    jwks: SecretStr | None = Field(None, validation_alias="JWT_JWKS")
    postgrest_secret_is_base64: bool = Field(
        False, validation_alias="PGRST_JWT_SECRET_IS_BASE64", examples=["true"]
    )
    postgrest_secret: SecretStr | None = Field(
        None,
        validation_alias="PGRST_JWT_SECRET",
        examples=["the output of: openssl rand -base64 48"],
    )
    jwt_keys: SecretStr | None = Field(None, validation_alias="GOTRUE_JWT_KEYS")
    anon_key: SecretStr | None = Field(None, validation_alias="ANON_KEY")
    service_role_key: SecretStr | None = Field(None, validation_alias="SERVICE_ROLE_KEY")
    publishable_key: SecretStr | None = Field(None, validation_alias="SUPABASE_PUBLISHABLE_KEY")
    secret_key: SecretStr | None = Field(None, validation_alias="SUPABASE_SECRET_KEY")

    @field_validator("postgrest_secret")
    @classmethod
    def _decoded(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value and info.data.get("postgrest_secret_is_base64"):
            value = SecretStr(_from_base64(value.get_secret_value()))
        return value if _is_json(value) else cls._long_secret(value)

    @field_validator("jwt_secret")
    @classmethod
    def _long_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if _is_json(value):
            return None
        if revealed(value).startswith("@"):  # everybody could guess a name that is the secret
            raise ValueError("must be the secret itself, and not @ and the name of a file")
        if value and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
        return value

    @field_validator("anon_key", "service_role_key")
    @classmethod
    def _with_role(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and "role" not in claims_of(value.get_secret_value()):
            raise ValueError(
                "must be a JSON Web Token with the claim role; an opaque key (sb_…) is the "
                "project's publishable or secret key"
            )
        return value

    @field_validator("jwt_keys")
    @classmethod
    def _signing_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from amphibase.accounts.jwt.signing_keys import read_signing_keys  # few have them

            read_signing_keys(value.get_secret_value())
        return value

    @field_validator("database_url", "authenticator_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme, separator, rest = value.get_secret_value().partition("://")
        if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
            raise ValueError("must start with postgresql://")
        # One way to write it: to libpq, a driver's name in the scheme is no URL.
        url = f"postgresql://{rest}"
        if not _is_read_by_all(url):
            raise ValueError(
                "cannot be read; in names and passwords, write %40 for @, %2F for /, %3A for :, "
                "%5B for [ and %25 for %"
            )
        return SecretStr(url)

    @field_validator("database_url")
    @classmethod
    def _with_name(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not urlsplit(revealed(value)).path[1:]:
            raise ValueError("must name the database")  # which `reset` makes anew
        return value

    @field_validator("external_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        # Auth's own address is one that self-hosters give here.
        return value.rstrip("/").removesuffix("/auth/v1") if value else None

    @model_validator(mode="after")
    def _private(self) -> Self:
        if not is_loopback(self.host) and (published := self._published()):
            raise ValueError(
                f"GATEWAY_HOST: {self.host} can be reached by other machines, and everybody knows "
                f"the keys and passwords of development; set {', '.join(published)} to your own "
                "(openssl rand -base64 48 makes a secret), or listen on 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _whole_access_key(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError(
                "S3_PROTOCOL_ACCESS_KEY_ID and S3_PROTOCOL_ACCESS_KEY_SECRET belong together; set "
                "both, or neither"
            )
        return self

    def _published(self) -> list[str]:
        """Return the names of the settings whose values everybody has."""
        values = {
            "JWT_SECRET": self.keys.secret,
            "ANON_KEY": revealed(self.anon_key),
            "SERVICE_ROLE_KEY": revealed(self.service_role_key),
            "SUPABASE_PUBLISHABLE_KEY": self.keys.publishable or "",
            "SUPABASE_SECRET_KEY": self.keys.secret_key or "",
            "S3_PROTOCOL_ACCESS_KEY_SECRET": revealed(self.s3_secret_access_key),
        }
        urls = {
            "GATEWAY_DATABASE_URL": revealed(self.database_url),
            "PGRST_DB_URI": revealed(self.authenticator_url),
        }
        names = [name for name, value in values.items() if is_published(value)]
        names += [name for name, url in urls.items() if has_published_password(url)]
        sets = {
            "JWT_JWKS": self.jwks,
            "PGRST_JWT_SECRET": self._postgrest_jwks,
            "GOTRUE_JWT_KEYS": self.jwt_keys,
        }
        return names + [
            name for name, value in sets.items() if any(map(is_published_jwk, _jwks(value)))
        ]

    @property
    def keys(self) -> ApiKeys:
        """The project's API keys; those that are not set are issued by the secret."""
        own = self.signs_with_secret
        secret = self._own_secret if own else CLI_JWT_SECRET
        return ApiKeys(
            secret=secret,
            anon=revealed(self.anon_key) or api_key(secret, "anon"),
            service_role=revealed(self.service_role_key) or api_key(secret, "service_role"),
            publishable=revealed(self.publishable_key) or (None if own else CLI_PUBLISHABLE_KEY),
            secret_key=revealed(self.secret_key) or (None if own else CLI_SECRET_KEY),
        )

    @property
    def s3(self) -> S3Credentials | None:
        """The access key of the S3 protocol; None where it is switched off."""
        if not self.s3_protocol_enabled:
            return None
        if self.s3_access_key_id is None or self.s3_secret_access_key is None:
            return s3_credentials(self.keys)
        secret = self.s3_secret_access_key.get_secret_value()
        return S3Credentials(self.s3_access_key_id, secret, self.keys.anon)

    @property
    def keys_of_others(self) -> str:
        """A JSON Web Key Set, or one key; empty where there is none."""
        return revealed(self.jwks) or revealed(self._postgrest_jwks)

    @property
    def signs_with_secret(self) -> bool:
        """Whether users' tokens are signed by the shared secret too."""
        return bool(self._own_secret)

    @property
    def _own_secret(self) -> str:
        own = revealed(self.jwt_secret)
        return own or ("" if _is_json(self.postgrest_secret) else revealed(self.postgrest_secret))

    @property
    def _postgrest_jwks(self) -> SecretStr | None:
        return self.postgrest_secret if _is_json(self.postgrest_secret) else None


def revealed(value: SecretStr | None) -> str:
    """Return the secret of a setting; empty where it is not set."""
    return value.get_secret_value() if value else ""


def _is_read_by_all(url: str) -> bool:
    """Whether libpq and we read the same in it; else the words of an error may hold a password."""
    import psycopg  # as late as this: most have no URL
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts, known = urlsplit(url), conninfo_to_dict(url)
    except (ValueError, psycopg.ProgrammingError):
        return False
    password = known.get("password") if parts.password is None else unquote(parts.password)
    ports = str(known.get("port") or "").replace(",", "")
    readable = "@" not in parts.path and (not ports or ports.isdecimal())
    return readable and known.get("password") == password


def _from_base64(text: str) -> str:
    """Decode a secret; `-`, `_` and `.` stand for `+`, `/` and `=`, as in PostgREST."""
    try:
        return b64decode(text.translate(str.maketrans("-_.", "+/=")), validate=True).decode()
    except ValueError:  # of base64 or of UTF-8
        raise ValueError(
            "must be base64 of a text, which Auth and Storage need too, or leave out "
            "PGRST_JWT_SECRET_IS_BASE64"
        ) from None


def _is_json(value: SecretStr | None) -> bool:
    return revealed(value).lstrip().startswith("{")


def _jwks(value: SecretStr | None) -> list[dict[str, Any]]:
    """Return the keys of a set or a list, or the one key; nothing of what is neither, which is
    rejected where it is read."""
    try:
        content = json.loads(revealed(value) or "{}")
    except ValueError:
        return []
    keys = content.get("keys", [content]) if isinstance(content, dict) else content
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
