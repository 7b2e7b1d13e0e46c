"""Sign-in through third parties that the administration registered, named `custom:…`."""

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, text

from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import invalid
from amphibase.gateway.auth.public_urls import check_public_url, check_request
from amphibase.settings.oauth import ProviderSettings

if TYPE_CHECKING:  # few projects have any
    from amphibase.accounts.oauth.custom import Registration
    from amphibase.accounts.oauth.providers import OpenIdConnect, Provider

PREFIX = "custom:"

_ONE = text("SELECT * FROM auth.custom_oauth_providers WHERE identifier = :identifier")


async def custom_provider(core: Core, name: str) -> "Provider":
    """Return a third party that the administration registered.

    Raises:
        AuthError: there is none, or it is switched off, or leads to a private network.
    """
    if not core.settings.custom_oauth_enabled:
        raise invalid("Unsupported provider: custom OAuth providers are disabled")
    row = await find_registration(core, name)
    if row is None:
        raise invalid(f"Unsupported provider: custom provider {name} not found")
    if not row.enabled:
        raise invalid(f"Unsupported provider: custom provider {name} is disabled")
    if _is_encrypted(row.client_secret):
        raise invalid(
            f"Unsupported provider: error decrypting client secret for provider {name}: "
            "database decryption keys not configured"
        )
    if row.provider_type == "oidc":
        if row.issuer is None:
            raise invalid(f"Unsupported provider: OIDC provider {name} missing issuer")
        return await build_openid(core, row)
    if None in (row.authorization_url, row.token_url, row.userinfo_url):
        raise invalid(f"Unsupported provider: OAuth2 provider {name} missing required endpoints")
    return await _build_oauth(core, row)


async def find_registration(core: Core, name: str) -> Row[Any] | None:
    """Return what is registered by that name."""
    async with core.database.read() as connection:
        return (await connection.execute(_ONE, {"identifier": name})).one_or_none()


async def build_openid(core: Core, row: Row[Any]) -> "OpenIdConnect":
    """Return a provider of OpenID Connect that is registered.

    Raises:
        AuthError: it leads to a private network.
    """
    from amphibase.accounts.oauth.custom import CustomOpenIdConnect

    # What a name leads to may have changed since it was registered.
    await check_public_url(row.discovery_url or row.issuer)
    return CustomOpenIdConnect(
        _settings(core, row),
        _registration(row),
        row.issuer,
        row.discovery_url or None,
        check_request,
    )


async def _build_oauth(core: Core, row: Row[Any]) -> "Provider":
    from amphibase.accounts.oauth.custom import CustomOAuth

    await check_public_url(row.token_url)
    await check_public_url(row.userinfo_url)
    return CustomOAuth(
        _settings(core, row),
        _registration(row),
        authorize=row.authorization_url,
        token=row.token_url,
        userinfo=row.userinfo_url,
        check=check_request,
    )


def _settings(core: Core, row: Row[Any]) -> ProviderSettings:
    own = core.settings.custom_oauth_external_url
    return ProviderSettings(
        (row.client_id, *row.acceptable_client_ids),
        row.client_secret,
        redirect_uri=f"{own.rstrip('/')}/callback" if own else None,
        skip_nonce_check=row.skip_nonce_check,
        email_optional=row.email_optional,
    )


def _registration(row: Row[Any]) -> "Registration":
    from amphibase.accounts.oauth.custom import Registration

    return Registration(
        row.identifier,
        row.scopes,
        row.pkce_enabled,
        row.authorization_params,
        row.attribute_mapping,
        row.custom_claims_allowlist,
    )


def _is_encrypted(secret: str) -> bool:
    """Return whether a Supabase Auth with a key for its database has stored a secret."""
    try:
        return bool(json.loads(secret)["key_id"])
    except (ValueError, KeyError, TypeError):
        return False
