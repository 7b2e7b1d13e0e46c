"""Settings of Supabase's own services that have no effect here: one that protects something stops
the start, and any other is named at it."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dotenv import dotenv_values
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import read_config, setting_name
from amphibase.gateway.upstream_settings import UPSTREAM_SETTINGS
from amphibase.settings.loading import nearest_setting

Environment = Mapping[str, str | None]

OFF = ("", "0", "false", "f", "no", "off", "0s")
"""Values by which a setting asks for nothing."""


@dataclass(frozen=True, slots=True)
class Protection:
    """Settings of a service that protect something.

    Attributes:
        names: the pattern of their names.
        advice: what to do instead.
        supported: the value that means what is done here.
    """

    names: re.Pattern[str]
    advice: str = "leave it out"
    supported: str | None = None

    def is_asked_for(self, name: str, value: str | None) -> bool:
        """Return whether a variable asks for it."""
        return (
            self.names.fullmatch(name) is not None
            and _is_on(value)
            and (value or "").strip().lower() != self.supported
        )


AUTH = (
    Protection(
        re.compile(
            r"GOTRUE_(?:"
            r"SESSIONS_TAGS"
            r"|SECURITY_(?:SB_FORWARDED_FOR_ENABLED|DB_ENCRYPTION_ENCRYPT)"
            r"|EXTERNAL_EMAIL_AUTHORIZED_ADDRESSES"
            r"|EXPERIMENTAL_PROVIDER(?:_LINKING_DOMAINS|S_WITH_OWN_LINKING_DOMAIN)"
            r")"
        )
    ),
)
"""What Supabase Auth reads (its `internal/conf/configuration.go`) and this Auth does not."""

STORAGE = (
    Protection(
        re.compile("STORAGE_BACKEND"), "objects are kept in FILE_STORAGE_BACKEND_PATH", "file"
    ),
    Protection(re.compile("RATE_LIMITER_ENABLED"), "limit requests in a proxy, and leave it out"),
    Protection(
        re.compile("UPLOAD_FILE_SIZE_LIMIT_STANDARD"), "UPLOAD_FILE_SIZE_LIMIT limits every upload"
    ),
    Protection(re.compile("REQUEST_HARD_LIMITS_ENABLED|MULTI_TENANT|IS_MULTITENANT")),
)
"""What Supabase Storage reads (its `src/config.ts`) and this Storage does not."""

OF_STORAGE = re.compile(
    r"(?:ENABLE_IMAGE_TRANSFORMATION|IMAGE_TRANSFORMATION_ENABLED|WEBHOOK_URL|PG_QUEUE_ENABLE"
    r"|S3_PROTOCOL_\w+|TUS_(?:MAX_CONCURRENT_UPLOADS|PART_SIZE|LOCK_TYPE|ALLOW_S3_TAGS)"
    r"|RESPONSE_S_MAXAGE|ICEBERG_ENABLED|VECTOR_ENABLED)"
)
"""Names of Storage that change something there; they have no prefix in common."""

OF_DEPLOYMENT = re.compile(
    r"GOTRUE_(?:API_\w+|DB_\w+|JWT_SECRET|JWT_KEYS|JWT_DEFAULT_GROUP_NAME|OPERATOR_TOKEN|LOG_\w+|METRICS_\w+"
    r"|TRACING_\w+|PROFILER_\w+)"
    r"|PGRST_(?:DB_URI|JWT_SECRET|SERVER_(?:HOST|PORT|UNIX_SOCKET\w*|REUSEPORT)|LOG_\w+|APP_SETTINGS_\w+"
    r"|DB_CHANNEL\w*|DB_USE_LEGACY_GUCS)"
)
"""Names that say where the other services run, or that the gateway itself reads."""


def read_environment() -> Environment:
    """Return the variables of the environment, of `.env`, and what `supabase/config.toml` says."""
    return {**read_config().values, **dotenv_values(".env"), **os.environ}


def reject_unsupported(service: str, protections: Iterable[Protection]) -> None:
    """Stop the start where the environment asks for a protection that is not here.

    Args:
        service: its name, for the message.

    Raises:
        ConfigurationError: one line for each variable.
    """
    lines = [
        f"{setting_name(name)}: is not supported by the local {service}; {protection.advice}"
        for name, value in sorted(read_environment().items())
        for protection in protections
        if protection.is_asked_for(name, value)
    ]
    if lines:
        raise ConfigurationError("\n".join(lines))


def ignored(environment: Environment, *settings: type[BaseSettings]) -> Iterator[str]:
    """Yield the names that are set as settings of the gateway or of Supabase's services are, and
    that nothing here reads: one that such a service has where it asks for something, and one that
    nobody has whatever its value, with the setting that may be meant.

    Args:
        settings: the classes whose fields are read.
    """
    read = {name for each in settings for name in _names_read(each)}
    for name, value in sorted(environment.items()):
        if name in read or OF_DEPLOYMENT.fullmatch(name):
            continue
        if name in UPSTREAM_SETTINGS or OF_STORAGE.fullmatch(name):
            if _is_on(value):
                yield name
        elif name.startswith(("GATEWAY_", "GOTRUE_", "PGRST_")):
            meant = nearest_setting(name, read - environment.keys())
            yield f"{name} ({meant}?)" if meant else name


def _names_read(settings: type[BaseSettings]) -> Iterator[str]:
    prefix = settings.model_config.get("env_prefix", "")
    for field, info in settings.model_fields.items():
        match info.validation_alias:
            case AliasChoices(choices=choices):
                yield from map(str, choices)
            case str(name):
                yield name
            case _:
                yield f"{prefix}{field}".upper()


def _is_on(value: str | None) -> bool:
    return (value or "").strip().lower() not in OFF
