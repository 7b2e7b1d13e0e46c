"""Which third parties may sign users in, by the names that Supabase Auth has (`GOTRUE_EXTERNAL_…`).

A secret is needed for the flow in the browser, and not for ID tokens that an application sends.
"""

from typing import Any

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import setting_name
from amphibase.settings.loading import CommaSeparated, LoadedSettings
from amphibase.settings.oauth import (
    PROVIDERS,
    ProviderSettings,
    check_provider_url,
    provider_url,
)


def _enabled() -> Any:
    return Field(False, examples=["true"])


def _client_id() -> Any:
    return Field((), examples=["the id that the provider shows"])


def _secret() -> Any:
    return Field(None, examples=["the secret that the provider shows"])


def _url(example: str) -> Any:
    return Field(None, examples=[example])


class ExternalSettings(LoadedSettings):
    """The third parties of a project."""

    external_apple_enabled: bool = _enabled()
    external_apple_client_id: CommaSeparated = _client_id()
    external_apple_secret: SecretStr | None = _secret()
    external_apple_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_apple_url: str | None = _url("https://id.example.com/realms/shop")
    external_apple_skip_nonce_check: bool = _enabled()
    external_apple_email_optional: bool = _enabled()

    external_azure_enabled: bool = _enabled()
    external_azure_client_id: CommaSeparated = _client_id()
    external_azure_secret: SecretStr | None = _secret()
    external_azure_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_azure_url: str | None = _url("https://id.example.com/realms/shop")
    external_azure_skip_nonce_check: bool = _enabled()
    external_azure_email_optional: bool = _enabled()

    external_discord_enabled: bool = _enabled()
    external_discord_client_id: CommaSeparated = _client_id()
    external_discord_secret: SecretStr | None = _secret()
    external_discord_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_discord_url: str | None = _url("https://id.example.com/realms/shop")
    external_discord_skip_nonce_check: bool = _enabled()
    external_discord_email_optional: bool = _enabled()

    external_github_enabled: bool = _enabled()
    external_github_client_id: CommaSeparated = _client_id()
    external_github_secret: SecretStr | None = _secret()
    external_github_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_github_url: str | None = _url("https://id.example.com/realms/shop")
    external_github_skip_nonce_check: bool = _enabled()
    external_github_email_optional: bool = _enabled()

    external_gitlab_enabled: bool = _enabled()
    external_gitlab_client_id: CommaSeparated = _client_id()
    external_gitlab_secret: SecretStr | None = _secret()
    external_gitlab_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_gitlab_url: str | None = _url("https://id.example.com/realms/shop")
    external_gitlab_skip_nonce_check: bool = _enabled()
    external_gitlab_email_optional: bool = _enabled()

    external_google_enabled: bool = _enabled()
    external_google_client_id: CommaSeparated = _client_id()
    external_google_secret: SecretStr | None = _secret()
    external_google_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_google_url: str | None = _url("https://id.example.com/realms/shop")
    external_google_skip_nonce_check: bool = _enabled()
    external_google_email_optional: bool = _enabled()

    external_keycloak_enabled: bool = _enabled()
    external_keycloak_client_id: CommaSeparated = _client_id()
    external_keycloak_secret: SecretStr | None = _secret()
    external_keycloak_redirect_uri: str | None = _url("https://api.example.com/auth/v1/callback")
    external_keycloak_url: str | None = _url("https://id.example.com/realms/shop")
    external_keycloak_skip_nonce_check: bool = _enabled()
    external_keycloak_email_optional: bool = _enabled()

    @field_validator("*")
    @classmethod
    def _check_external_url(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if value and name.startswith("external_") and name.endswith(("_url", "_uri")):
            check_provider_url(value)
        return value

    def check_providers(self) -> None:
        """Raise ConfigurationError for a provider that is enabled and cannot be used."""
        for name in PROVIDERS:
            self.provider(name)

    def provider(self, name: str) -> ProviderSettings | None:
        """Return what is registered at a provider; None where it is not enabled.

        Raises:
            ConfigurationError: it is enabled without a client id, or without a URL or tenant where
                it needs one.
        """
        if name not in PROVIDERS or not getattr(self, f"external_{name}_enabled"):
            return None
        prefix = f"GOTRUE_EXTERNAL_{name.upper()}"
        client_ids: tuple[str, ...] = getattr(self, f"external_{name}_client_id")
        if not client_ids:
            setting = setting_name(f"{prefix}_CLIENT_ID")
            raise ConfigurationError(f"{setting}: is missing, and {name} is enabled")
        url = provider_url(
            name, getattr(self, f"external_{name}_url"), lambda: setting_name(f"{prefix}_URL")
        )
        secret: SecretStr | None = getattr(self, f"external_{name}_secret")
        return ProviderSettings(
            client_ids,
            secret.get_secret_value() if secret else "",
            getattr(self, f"external_{name}_redirect_uri"),
            url,
            getattr(self, f"external_{name}_skip_nonce_check"),
            getattr(self, f"external_{name}_email_optional"),
        )
