"""Which third parties may sign users in, by the names that Supabase Auth has (`GOTRUE_EXTERNAL_…`).

A secret is needed for the flow in the browser, and not for ID tokens that an application sends.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from amphibase.errors import ConfigurationError
from amphibase.settings import CommaSeparated

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")

ProviderName = Literal["apple", "azure", "discord", "github", "gitlab", "google", "keycloak"]


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What is registered at a third party.

    Attributes:
        client_ids: the first is for the flow in the browser; ID tokens may be for any.
        url: instead of the provider's own, such as of a GitLab of one's own; None for that.
        skip_nonce_check: whether ID tokens are taken without the nonce that they name.
    """

    client_ids: tuple[str, ...]
    secret: str = field(repr=False)
    redirect_uri: str | None
    url: str | None
    skip_nonce_check: bool = False


def _enabled() -> Any:
    return Field(False, examples=["true"])


def _client_id() -> Any:
    return Field((), examples=["the id that the provider shows"])


def _secret() -> Any:
    return Field(None, examples=["the secret that the provider shows"])


def _url(example: str) -> Any:
    return Field(None, examples=[example])


class ExternalSettings(BaseSettings):
    """The third parties of a project."""

    external_apple_enabled: bool = _enabled()
    external_apple_client_id: CommaSeparated = _client_id()
    external_apple_secret: SecretStr | None = _secret()
    external_apple_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_apple_url: str | None = _url("https://id.example.com/realms/shop")
    external_apple_skip_nonce_check: bool = _enabled()

    external_azure_enabled: bool = _enabled()
    external_azure_client_id: CommaSeparated = _client_id()
    external_azure_secret: SecretStr | None = _secret()
    external_azure_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_azure_url: str | None = _url("https://id.example.com/realms/shop")
    external_azure_skip_nonce_check: bool = _enabled()

    external_discord_enabled: bool = _enabled()
    external_discord_client_id: CommaSeparated = _client_id()
    external_discord_secret: SecretStr | None = _secret()
    external_discord_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_discord_url: str | None = _url("https://id.example.com/realms/shop")
    external_discord_skip_nonce_check: bool = _enabled()

    external_github_enabled: bool = _enabled()
    external_github_client_id: CommaSeparated = _client_id()
    external_github_secret: SecretStr | None = _secret()
    external_github_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_github_url: str | None = _url("https://id.example.com/realms/shop")
    external_github_skip_nonce_check: bool = _enabled()

    external_gitlab_enabled: bool = _enabled()
    external_gitlab_client_id: CommaSeparated = _client_id()
    external_gitlab_secret: SecretStr | None = _secret()
    external_gitlab_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_gitlab_url: str | None = _url("https://id.example.com/realms/shop")
    external_gitlab_skip_nonce_check: bool = _enabled()

    external_google_enabled: bool = _enabled()
    external_google_client_id: CommaSeparated = _client_id()
    external_google_secret: SecretStr | None = _secret()
    external_google_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_google_url: str | None = _url("https://id.example.com/realms/shop")
    external_google_skip_nonce_check: bool = _enabled()

    external_keycloak_enabled: bool = _enabled()
    external_keycloak_client_id: CommaSeparated = _client_id()
    external_keycloak_secret: SecretStr | None = _secret()
    external_keycloak_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_keycloak_url: str | None = _url("https://id.example.com/realms/shop")
    external_keycloak_skip_nonce_check: bool = _enabled()

    @field_validator("*", mode="before")
    @classmethod
    def _split_client_ids(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if name.startswith("external_") and name.endswith("_client_id") and isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("*")
    @classmethod
    def _check_external_url(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if value and name.startswith("external_") and name.endswith(("_url", "_uri")):
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must be a whole URL, such as https://id.example.com")
            if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
                raise ValueError("must start with https://, except on this machine")
        return value

    def check_providers(self) -> None:
        """Raise ConfigurationError for a provider that is enabled and cannot be used."""
        for name in get_args(ProviderName):
            self.provider(name)

    def provider(self, name: str) -> ProviderSettings | None:
        """Return what is registered at a provider; None where it is not enabled.

        Raises:
            ConfigurationError: it is enabled without a client id, or without a URL or tenant where
                it needs one.
        """
        if name not in get_args(ProviderName) or not getattr(self, f"external_{name}_enabled"):
            return None
        prefix = f"GOTRUE_EXTERNAL_{name.upper()}"
        client_ids: tuple[str, ...] = getattr(self, f"external_{name}_client_id")
        if not client_ids:
            raise ConfigurationError(f"{prefix}_CLIENT_ID: is missing, and {name} is enabled")
        url: str | None = getattr(self, f"external_{name}_url")
        if name == "keycloak" and not url:
            raise ConfigurationError(f"{prefix}_URL: is missing: the URL of the realm")
        if name == "azure" and url and not urlsplit(url).path.strip("/"):
            raise ConfigurationError(
                f"{prefix}_URL: names no tenant: https://login.microsoftonline.com/<tenant>"
            )
        secret: SecretStr | None = getattr(self, f"external_{name}_secret")
        return ProviderSettings(
            client_ids,
            secret.get_secret_value() if secret else "",
            getattr(self, f"external_{name}_redirect_uri"),
            url.rstrip("/") if url else None,
            getattr(self, f"external_{name}_skip_nonce_check"),
        )
