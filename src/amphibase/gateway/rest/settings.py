"""The settings of the Data API, by the names of PostgREST's environment variables."""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_environment import settings_environment
from amphibase.gateway.project_settings import ProjectSettings
from amphibase.gateway.rest.transaction.role_claim import RolePath
from amphibase.settings.loading import CommaSeparated, load

TransactionEnd = Literal["commit", "commit-allow-override", "rollback", "rollback-allow-override"]
OpenApiMode = Literal["follow-privileges", "ignore-privileges", "disabled"]


_PORTS = {"http": 80, "https": 443}
_APP_SETTINGS = "PGRST_APP_SETTINGS_"
_SEARCH_PATH = "PGRST_DB_EXTRA_SEARCH_PATH"

DATABASE_PREFIX = "pgrst."
"""Before the names of settings in the database: ALTER ROLE authenticator SET pgrst.db_max_rows."""

IN_DATABASE = frozenset(
    (
        "db_schemas", "db_anon_role", "db_extra_search_path", "db_max_rows",
        "db_aggregates_enabled", "db_tx_end", "db_pre_request", "db_plan_enabled", "jwt_aud",
        "jwt_role_claim_key", "openapi_mode", "openapi_security_active", "openapi_server_proxy_uri",
        "db_root_spec", "db_hoisted_tx_settings", "server_timing_enabled", "server_trace_header",
        "client_error_verbosity",
    )
)  # fmt: skip
"""The settings that the database may override."""

NOT_IN_DATABASE = {
    "jwt_secret": "set PGRST_JWT_SECRET in the environment instead",
    "jwt_secret_is_base64": "set PGRST_JWT_SECRET_IS_BASE64 in the environment instead",
    "db_pre_config": "set PGRST_DB_PRE_CONFIG in the environment instead",
    "server_cors_allowed_origins": "set PGRST_SERVER_CORS_ALLOWED_ORIGINS in the environment "
    "instead",
}
"""Settings that protect something, and that would be ignored."""


class RestSettings(ProjectSettings):
    """What PostgREST's documentation says of each name holds here
    (https://docs.postgrest.org/en/v14/references/configuration.html).

    Attributes:
        db_config: whether settings in the database override these.
        db_pre_config: a function that is called before the settings in the database are read, and
            sets them with `set_config('pgrst.…', …)`; those of the role win.
        db_hoisted_tx_settings: which of the settings that functions have (`SET … TO …`) are those
            of the whole transaction.
        db_schemas: the exposed schemas; the first is the default.
        db_max_rows: the most rows of a read; None for no end.
        db_pre_request: a function that is called before each request's own statement.
        db_prepared_statements: off behind a pooler in transaction mode, which rejects them; such a
            gateway has to be restarted after a change of the schema.
        db_pool: the most connections, opened as they are needed; the default is Amphibase's own.
        db_pool_acquisition_timeout: seconds to wait for a connection.
        jwt_role_claim_key: the path of the role in a token's claims.
        db_root_spec: a function that is called at the root, in place of its description.
        server_timing_enabled: whether responses say how long their phases took.
        server_trace_header: the name of a header that responses repeat.
        server_cors_allowed_origins: of the pages that may call; none for all.
        client_error_verbosity: whether errors have details and hints, which tell clients of the
            database; since PostgREST 16.
        openapi_server_proxy_uri: the URL that the description gives; None for the request's.
    """

    model_config = SettingsConfigDict(env_prefix="PGRST_")

    db_config: bool = Field(True, examples=["true"])
    db_pre_config: str | None = Field(None, examples=["postgrest.pre_config"])
    db_hoisted_tx_settings: CommaSeparated = Field(
        ("statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation"),
        examples=["statement_timeout"],
    )
    db_schemas: CommaSeparated = Field(("public", "graphql_public"), examples=["public,api"])
    db_anon_role: str | None = Field("anon", examples=["anon"])
    db_extra_search_path: CommaSeparated = Field(
        ("public", "extensions"), examples=["public,extensions"]
    )
    db_max_rows: int | None = Field(1000, ge=0, examples=["1000"])
    db_aggregates_enabled: bool = Field(False, examples=["false"])
    db_tx_end: TransactionEnd = Field("commit", examples=["commit"])
    db_pre_request: str | None = Field(None, examples=["public.check_request"])
    db_plan_enabled: bool = Field(False, examples=["false"])
    db_prepared_statements: bool = Field(True, examples=["true"])
    db_pool: int = Field(20, ge=1, le=1000, examples=["20"])
    db_pool_acquisition_timeout: float = Field(10, gt=0, examples=["10"])
    jwt_aud: str | None = Field(None, examples=["authenticated"])
    jwt_role_claim_key: str = Field(".role", examples=[".role"])
    db_root_spec: str | None = Field(None, examples=["public.root"])
    server_timing_enabled: bool = Field(False, examples=["false"])
    server_trace_header: str | None = Field(None, examples=["X-Request-Id"])
    server_cors_allowed_origins: CommaSeparated = Field((), examples=["https://app.example.com"])
    client_error_verbosity: Literal["verbose", "minimal"] = Field("verbose", examples=["minimal"])
    openapi_mode: OpenApiMode = Field("follow-privileges", examples=["follow-privileges"])
    openapi_security_active: bool = Field(False, examples=["false"])
    openapi_server_proxy_uri: str | None = Field(None, examples=["https://api.example.com/rest/v1"])

    @field_validator("db_schemas")
    @classmethod
    def _some(cls, value: CommaSeparated) -> CommaSeparated:
        if not value:
            raise ValueError("must name at least one schema")
        if any(name in ("pg_catalog", "information_schema") for name in value):
            raise ValueError("must not expose the catalog itself")
        return value

    @field_validator("openapi_server_proxy_uri")
    @classmethod
    def _with_port(cls, value: str | None) -> str | None:
        if not value:
            return None
        url = urlsplit(value)
        if url.scheme not in _PORTS or not url.hostname or url.username or url.query:
            raise ValueError("must be a URL such as https://api.example.com/rest/v1")
        return f"{url.scheme}://{url.hostname}:{url.port or _PORTS[url.scheme]}{url.path}"

    @field_validator("jwt_role_claim_key")
    @classmethod
    def _path(cls, value: str) -> str:
        RolePath(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, of which an empty PGRST_DB_EXTRA_SEARCH_PATH is one, since it means
        no schema (PostgREST 13.0.1); any other variable that is empty counts as missing."""
        given, *others = super().settings_customise_sources(settings_cls, *sources, **named)
        is_empty = settings_environment().get(_SEARCH_PATH) == ""
        no_path = InitSettingsSource(settings_cls, {"db_extra_search_path": ()} if is_empty else {})
        return given, no_path, *others

    def overridden(self, values: Mapping[str, str]) -> "RestSettings":
        """Return the settings as the database overrides them.

        Args:
            values: of the database's settings, by their names without the prefix.

        Raises:
            ConfigurationError: a value is wrong, or a setting that protects something has no
                effect here.
        """
        for name in values.keys() & NOT_IN_DATABASE:
            raise ConfigurationError(
                f"{DATABASE_PREFIX}{name} in the database has no effect: {NOT_IN_DATABASE[name]}, "
                f"and ALTER ROLE … RESET {DATABASE_PREFIX}{name}"
            )
        overrides = {name: value for name, value in values.items() if name in IN_DATABASE}
        try:
            return load(RestSettings, **{**self.model_dump(), **overrides}) if overrides else self
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The database's own settings (ALTER ROLE … SET {DATABASE_PREFIX}…): {error}"
            ) from None

    @property
    def app_settings(self) -> dict[str, str]:
        """What SQL reads as `app.settings.…`, of the variables PGRST_APP_SETTINGS_…."""
        return {
            f"app.settings.{name[len(_APP_SETTINGS) :].lower()}": value
            for name, value in settings_environment().items()
            if name.upper().startswith(_APP_SETTINGS) and value is not None
        }

    @property
    def root_function(self) -> str | None:
        """The name of the function that is called at the root, in the schema of the request."""
        if self.db_root_spec is None or self.openapi_mode == "disabled":
            return None
        return self.db_root_spec.rpartition(".")[2]

    @property
    def are_errors_minimal(self) -> bool:
        """Whether errors have neither details nor hints."""
        return self.client_error_verbosity == "minimal"

    @property
    def may_override_end(self) -> bool:
        """Whether `Prefer: tx=` is heeded."""
        return self.db_tx_end.endswith("-allow-override")

    @property
    def rolls_back(self) -> bool:
        """Whether a transaction is rolled back unless its request says otherwise."""
        return self.db_tx_end.startswith("rollback")
