"""Which third parties may sign users in: a client id enables one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from amphibase.errors import ConfigurationError, InvalidRequest
from amphibase.loopback import is_loopback
from amphibase.settings.loading import CommaSeparated, LoadedSettings

ProviderName = Literal["apple", "azure", "discord", "github", "gitlab", "google", "keycloak"]
PROVIDERS: tuple[ProviderName, ...] = get_args(ProviderName)


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What is registered at a third party.

    Attributes:
        client_ids: the first is for the flow in the browser; ID tokens may be for any.
        redirect_uri: where it sends browsers back to; None for the usual one.
        url: instead of the provider's own, such as of a GitLab of one's own; None for that.
        skip_nonce_check: whether ID tokens are taken without the nonce that they name.
        email_optional: whether a user may have no address.
    """

    client_ids: tuple[str, ...]
    secret: str = field(repr=False)
    redirect_uri: str | None = None
    url: str | None = None
    skip_nonce_check: bool = False
    email_optional: bool = False


def _client_id() -> Any:
    return Field(None, examples=["the id that the provider shows"])


def _client_secret() -> Any:
    return Field(None, examples=["the secret that the provider shows"])


def _url() -> Any:
    return Field(None, examples=["https://id.example.com/realms/shop"])


class OAuthSettings(LoadedSettings):
    """The third parties of an application, and where browsers come back to it."""

    oauth_redirect_urls: CommaSeparated = Field((), examples=["https://example.com/signed-in"])

    oauth_apple_client_id: str | None = _client_id()
    oauth_apple_client_secret: SecretStr | None = _client_secret()
    oauth_apple_url: str | None = _url()

    oauth_azure_client_id: str | None = _client_id()
    oauth_azure_client_secret: SecretStr | None = _client_secret()
    oauth_azure_url: str | None = _url()

    oauth_discord_client_id: str | None = _client_id()
    oauth_discord_client_secret: SecretStr | None = _client_secret()
    oauth_discord_url: str | None = _url()

    oauth_github_client_id: str | None = _client_id()
    oauth_github_client_secret: SecretStr | None = _client_secret()
    oauth_github_url: str | None = _url()

    oauth_gitlab_client_id: str | None = _client_id()
    oauth_gitlab_client_secret: SecretStr | None = _client_secret()
    oauth_gitlab_url: str | None = _url()

    oauth_google_client_id: str | None = _client_id()
    oauth_google_client_secret: SecretStr | None = _client_secret()
    oauth_google_url: str | None = _url()

    oauth_keycloak_client_id: str | None = _client_id()
    oauth_keycloak_client_secret: SecretStr | None = _client_secret()
    oauth_keycloak_url: str | None = _url()

    @field_validator("oauth_redirect_urls")
    @classmethod
    def _check_redirect_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            check_redirect_url(url)
        return value

    @field_validator("*")
    @classmethod
    def _check_provider_url(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        if value and name.startswith("oauth_") and name.endswith("_url"):
            check_provider_url(value)
        return value

    def oauth_provider(self, name: str) -> ProviderSettings | None:
        """Return what is registered at a provider; None where it is not enabled.

        Raises:
            ConfigurationError: it lacks its secret, or a URL or tenant that it needs.
        """
        if name not in PROVIDERS:
            return None
        client_id: str | None = getattr(self, f"oauth_{name}_client_id")
        if client_id is None:
            return None
        prefix = f"OAUTH_{name.upper()}"
        secret: SecretStr | None = getattr(self, f"oauth_{name}_client_secret")
        if secret is None:
            raise ConfigurationError(f"{prefix}_CLIENT_SECRET: is missing")
        url = provider_url(name, getattr(self, f"oauth_{name}_url"), lambda: f"{prefix}_URL")
        return ProviderSettings((client_id,), secret.get_secret_value(), url=url)

    def oauth_redirect_url(self, requested: str | None) -> str:
        """Return where a browser comes back to.

        Args:
            requested: one of `OAUTH_REDIRECT_URLS`, character by character; None for the first.

        Raises:
            InvalidRequest: it is another.
        """
        if requested is None and self.oauth_redirect_urls:
            return self.oauth_redirect_urls[0]
        if requested not in self.oauth_redirect_urls:
            raise InvalidRequest("redirect_to has to be one of OAUTH_REDIRECT_URLS")
        return requested

    def oauth_providers(self) -> tuple[str, ...]:
        """Return the names of the third parties that are enabled.

        Raises:
            ConfigurationError: one of them cannot be used, or no URL leads back from it.
        """
        names = tuple(name for name in PROVIDERS if self.oauth_provider(name) is not None)
        if names and not self.oauth_redirect_urls:
            raise ConfigurationError(
                "OAUTH_REDIRECT_URLS: is missing: the URLs of your application that users come "
                f"back to from {', '.join(names)}, for example https://example.com/signed-in"
            )
        return names


def check_provider_url(url: str) -> None:
    """Raise ValueError for a URL that a provider may not have."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a whole URL, such as https://id.example.com")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must start with https://, except on this machine")


def check_redirect_url(url: str) -> None:
    """Raise ValueError for a URL that no browser should be sent to with a code."""
    parts = urlsplit(url)
    if not parts.scheme or parts.scheme in ("javascript", "data", "vbscript"):
        raise ValueError("each must be a whole URL, such as https://example.com/signed-in")
    if parts.scheme in ("http", "https") and (not parts.hostname or parts.username is not None):
        raise ValueError("each must be a whole URL, such as https://example.com/signed-in")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("each must start with https://, except on this machine")
    if parts.fragment:
        raise ValueError("none may have a fragment (#…)")


def provider_url(name: str, url: str | None, setting: Callable[[], str]) -> str | None:
    """Return the URL of a provider without a slash at its end.

    Args:
        setting: returns what names it, for the message.

    Raises:
        ConfigurationError: it is missing, or names no tenant, where the provider needs that.
    """
    if name == "keycloak" and not url:
        raise ConfigurationError(f"{setting()}: is missing: the URL of the realm")
    if name == "azure" and url and not urlsplit(url).path.strip("/"):
        raise ConfigurationError(
            f"{setting()}: names no tenant: https://login.microsoftonline.com/<tenant>"
        )
    return url.rstrip("/") if url else None
