"""Sign-in through third parties that the administration registered, named `custom:…`."""

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, text

from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import invalid
from amphibase.gateway.auth.public_urls import check_public_url
from amphibase.settings.oauth import ProviderSettings

if TYPE_CHECKING:  # few projects have any
    from amphibase.accounts.oauth.providers import Provider

PREFIX = "custom:"

_ONE = text("SELECT * FROM auth.custom_oauth_providers WHERE identifier = :identifier")


async def custom_provider(core: Core, name: str) -> "Provider":
    """Return a third party that the administration registered.

    Raises:
        AuthError: there is none, or it is switched off, or leads to a private network.
    """
    if not core.settings.custom_oauth_enabled:
        raise invalid("Unsupported provider: custom OAuth providers are disabled")
    async with core.database.read() as connection:
        row = (await connection.execute(_ONE, {"identifier": name})).one_or_none()
    if row is None:
        raise invalid(f"Unsupported provider: custom provider {name} not found")
    if not row.enabled:
        raise invalid(f"Unsupported provider: custom provider {name} is disabled")
    return await _build(row)


async def _build(row: Row[Any]) -> "Provider":
    from amphibase.accounts.oauth.custom import CustomOAuth, CustomOpenIdConnect, Registration

    if _is_encrypted(row.client_secret):
        raise invalid(
            "Unsupported provider: error decrypting client secret for provider"
            f" {row.identifier}: database decryption keys not configured"
        )
    settings = ProviderSettings(
        (row.client_id, *row.acceptable_client_ids),
        row.client_secret,
        email_optional=row.email_optional,
    )
    registration = Registration(
        row.identifier,
        row.scopes,
        row.pkce_enabled,
        row.authorization_params,
        row.attribute_mapping,
        row.custom_claims_allowlist,
    )
    if row.provider_type == "oidc":
        if row.issuer is None:
            raise invalid(f"Unsupported provider: OIDC provider {row.identifier} missing issuer")
        # What a name leads to may have changed since it was registered.
        await check_public_url(row.discovery_url or row.issuer)
        return CustomOpenIdConnect(settings, registration, row.issuer, row.discovery_url)
    urls = (row.authorization_url, row.token_url, row.userinfo_url)
    if None in urls:
        raise invalid(
            f"Unsupported provider: OAuth2 provider {row.identifier} missing required endpoints"
        )
    await check_public_url(row.token_url)
    await check_public_url(row.userinfo_url)
    return CustomOAuth(
        settings,
        registration,
        authorize=row.authorization_url,
        token=row.token_url,
        userinfo=row.userinfo_url,
    )


def _is_encrypted(secret: str) -> bool:
    """Return whether a Supabase Auth with a key for its database has stored a secret."""
    try:
        return bool(json.loads(secret)["key_id"])
    except (ValueError, KeyError, TypeError):
        return False
