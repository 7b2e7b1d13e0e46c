"""Which hooks a project has, by the names that Supabase Auth reads (`GOTRUE_HOOK_…`)."""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import setting_name
from amphibase.settings.loading import LoadedSettings

HookName = Literal[
    "custom_access_token",
    "before_user_created",
    "after_user_created",
    "send_email",
    "send_sms",
    "mfa_verification_attempt",
    "password_verification_attempt",
]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "host.docker.internal")
"""Hosts that may be called without TLS."""

SECRET_PREFIX = "v1,whsec_"

_FUNCTION = re.compile(r"pg-functions://[^/]+/(\w{1,63})/(\w{1,63})", re.ASCII)


@dataclass(frozen=True, slots=True)
class HookTarget:
    """What a hook calls.

    Attributes:
        uri: `pg-functions://postgres/SCHEMA/FUNCTION`, or a URL.
        secrets: sign requests to a URL; more than one while they are rotated.
    """

    uri: str
    secrets: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The URI for logs and messages, without a query, which may hold a secret."""
        if self.function is not None:
            return self.uri
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def function(self) -> tuple[str, str] | None:
        """The schema and the name of a function of the database; None for a URL."""
        match = _FUNCTION.fullmatch(self.uri)
        return (match[1], match[2]) if match else None


def _enabled() -> Any:
    return Field(False, examples=["true"])


def _uri() -> Any:
    return Field(None, examples=["pg-functions://postgres/public/the_function"])


def _secrets() -> Any:
    return Field(None, examples=["v1,whsec_ and 32 bytes in base64"])


class HookSettings(LoadedSettings):
    """The hooks of a project: each is enabled, has a URI and, over HTTP, secrets."""

    hook_custom_access_token_enabled: bool = _enabled()
    hook_custom_access_token_uri: str | None = _uri()
    hook_custom_access_token_secrets: SecretStr | None = _secrets()
    hook_before_user_created_enabled: bool = _enabled()
    hook_before_user_created_uri: str | None = _uri()
    hook_before_user_created_secrets: SecretStr | None = _secrets()
    hook_after_user_created_enabled: bool = _enabled()
    hook_after_user_created_uri: str | None = _uri()
    hook_after_user_created_secrets: SecretStr | None = _secrets()
    hook_send_email_enabled: bool = _enabled()
    hook_send_email_uri: str | None = _uri()
    hook_send_email_secrets: SecretStr | None = _secrets()
    hook_send_sms_enabled: bool = _enabled()
    hook_send_sms_uri: str | None = _uri()
    hook_send_sms_secrets: SecretStr | None = _secrets()
    hook_mfa_verification_attempt_enabled: bool = _enabled()
    hook_mfa_verification_attempt_uri: str | None = _uri()
    hook_mfa_verification_attempt_secrets: SecretStr | None = _secrets()
    hook_password_verification_attempt_enabled: bool = _enabled()
    hook_password_verification_attempt_uri: str | None = _uri()
    hook_password_verification_attempt_secrets: SecretStr | None = _secrets()

    @field_validator("*")
    @classmethod
    def _check_hook(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if not name.startswith("hook_") or value is None:
            return value
        if name.endswith("_uri"):
            _check_uri(value)
        elif name.endswith("_secrets"):
            _read_secrets(value.get_secret_value())
        return value

    def check_hooks(self) -> None:
        """Raise ConfigurationError for a hook that is enabled and cannot be called."""
        for name in get_args(HookName):
            self.hook(name)

    def hook(self, name: HookName) -> HookTarget | None:
        """Return what a hook calls; None where it is not enabled.

        Raises:
            ConfigurationError: it is enabled without a URI, or without secrets where it needs them.
        """
        if not getattr(self, f"hook_{name}_enabled"):
            return None
        prefix = f"GOTRUE_HOOK_{name.upper()}"
        uri: str | None = getattr(self, f"hook_{name}_uri")
        if not uri:
            setting = setting_name(f"{prefix}_URI")
            raise ConfigurationError(f"{setting}: is missing, and the hook is enabled")
        secrets: SecretStr | None = getattr(self, f"hook_{name}_secrets")
        target = HookTarget(uri, _read_secrets(secrets.get_secret_value()) if secrets else ())
        if target.function is None and not target.secrets:
            setting = setting_name(f"{prefix}_SECRETS")
            raise ConfigurationError(
                f"{setting}: is missing; without it the hook cannot tell who calls"
            )
        return target


def _check_uri(uri: str) -> None:
    if _FUNCTION.fullmatch(uri):
        return
    parts = urlsplit(uri)
    if parts.scheme == "pg-functions":
        raise ValueError("must name a schema and a function: pg-functions://postgres/public/name")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL, or pg-functions://postgres/public/name")
    if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
        raise ValueError("must start with https://, except on this machine")


def _read_secrets(text: str) -> tuple[bytes, ...]:
    return tuple(_keys(text))


def _keys(text: str) -> Iterator[bytes]:
    for secret in text.split("|"):
        encoded = secret.strip().removeprefix(SECRET_PREFIX)
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not secret.strip().startswith(SECRET_PREFIX) or len(key) < 16:
            raise ValueError("must be v1,whsec_ and at least 16 bytes in base64")
        yield key
