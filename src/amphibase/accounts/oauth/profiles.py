"""What third parties say of a user, as the identities of Supabase Auth have it."""

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from amphibase.accounts.external_identities import ExternalIdentity
from amphibase.accounts.oauth.http import ProviderError
from amphibase.accounts.oauth.openid import ANY_TENANT

Json = Mapping[str, Any]

CLAIMS = (
    "name", "family_name", "given_name", "middle_name", "nickname", "preferred_username",
    "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "phone",
    "avatar_url", "full_name", "slug", "user_name",
)  # fmt: skip
"""What a third party may say of a user beside the address."""

SHARED_TENANTS = {
    "common",
    "organizations",
    "consumers",
    "9188040d-6c67-4c5b-b112-36a304b66dad",  # the id of `consumers`
    ANY_TENANT.lower(),
}
"""Of Azure: tenants of anybody, whose administrators write any address into a profile."""


def of_claims(provider: str, claims: Json, *, is_verified: bool | None = None) -> ExternalIdentity:
    """Return the identity that an ID token names (OpenID Connect Core, section 5.1).

    Args:
        is_verified: whether the address is; None where the token says so itself.
    """
    if is_verified is None:
        # Apple writes it as text.
        is_verified = claims.get("email_verified") in (True, "true")
    name, picture = claims.get("name"), claims.get("picture")
    more = {
        "name": name,
        "full_name": name,
        "picture": picture,
        "avatar_url": picture,
        "preferred_username": claims.get("preferred_username"),
        "custom_claims": {"hd": claims["hd"]} if "hd" in claims else None,
    }
    return _identity(
        provider, claims.get("iss"), claims["sub"], claims.get("email"), is_verified, more
    )


def of_custom(provider: str, claims: Json, custom_claims: Json) -> ExternalIdentity:
    """Return the identity that a third party names which the administration registered.

    Args:
        custom_claims: what the identity keeps beside the claims of OpenID Connect.
    """
    more: dict[str, Any] = {
        name: value for name in CLAIMS if isinstance(value := claims.get(name), str) and value
    }
    if custom_claims:
        more["custom_claims"] = custom_claims
    is_verified = claims.get("email_verified") in (True, "true")
    return _identity(
        provider, claims.get("iss"), claims["sub"], claims.get("email"), is_verified, more
    )


def with_apple_name(identity: ExternalIdentity, user: str) -> ExternalIdentity:
    """Add the name that Apple sends beside the code, the first time alone.

    Args:
        user: the field of the form, which is JSON; empty where there is none.
    """
    try:
        name = json.loads(user)["name"]
        full_name = f"{name.get('firstName', '')} {name.get('lastName', '')}".strip()
        return replace(identity, data={**identity.data, "name": full_name, "full_name": full_name})
    except (ValueError, KeyError, TypeError, AttributeError):
        return identity


def of_azure(claims: Json, url: str, issuer: str) -> ExternalIdentity:
    """Return the identity that an ID token of Azure names.

    An address is verified where Azure says that the tenant owns its domain (`xms_edov`). Where
    Azure says nothing, it is verified if the project admits one tenant alone, whose administrators
    vouch for it.

    Args:
        url: of the tenant.
        issuer: that the tenant's configuration names.
    """
    if "xms_edov" in claims:
        is_verified = str(claims["xms_edov"]).lower() in ("true", "1")
    else:
        parts = {part for each in (url, issuer) for part in urlsplit(each).path.lower().split("/")}
        is_verified = parts.isdisjoint(SHARED_TENANTS)
    return of_claims("azure", claims, is_verified=is_verified)


def of_github(user: Json, emails: Iterable[Json], url: str) -> ExternalIdentity:
    """Return the identity of a user of GitHub, who may have several addresses."""
    ordered = sorted(
        (email for email in emails if email.get("email")),
        key=lambda email: (not email.get("verified"), not email.get("primary")),
    )
    email = ordered[0] if ordered else {}
    more = {
        "name": user.get("name"),
        "full_name": user.get("name"),
        "user_name": user.get("login"),
        "preferred_username": user.get("login"),
        "avatar_url": user.get("avatar_url"),
    }
    is_verified = email.get("verified") is True
    return _identity("github", url, user["id"], email.get("email"), is_verified, more)


def of_gitlab(user: Json, url: str) -> ExternalIdentity:
    """Return the identity of a user of GitLab."""
    more = {
        "name": user.get("name"),
        "full_name": user.get("name"),
        "user_name": user.get("username"),
        "picture": user.get("avatar_url"),
        "avatar_url": user.get("avatar_url"),
    }
    is_verified = bool(user.get("confirmed_at"))
    return _identity("gitlab", url, user["id"], user.get("email"), is_verified, more)


def of_discord(user: Json, url: str) -> ExternalIdentity:
    """Return the identity of a user of Discord."""
    avatar = user.get("avatar")
    picture = f"https://cdn.discordapp.com/avatars/{user['id']}/{avatar}.png" if avatar else None
    more = {
        "name": f"{user.get('username')}#{user.get('discriminator', '0')}",
        "full_name": user.get("username"),
        "picture": picture,
        "avatar_url": picture,
        "custom_claims": {"global_name": user.get("global_name")},
    }
    is_verified = user.get("verified") is True
    return _identity("discord", url, user["id"], user.get("email"), is_verified, more)


def _identity(
    provider: str, issuer: Any, subject: Any, email: Any, is_verified: bool, more: Json
) -> ExternalIdentity:
    """Return an identity; raise ProviderError for text that no database keeps.

    An address that has another form in Unicode counts as not verified: in lower case, the Kelvin
    sign is a `k`, and its owner is not the one of the address with that letter.
    """
    address = email.strip() if isinstance(email, str) else ""
    email = address.lower() or None
    is_verified = is_verified and unicodedata.is_normalized("NFC", address)
    data = {
        "iss": issuer,
        "sub": str(subject),
        "provider_id": str(subject),
        "email": email,
        "email_verified": is_verified and email is not None,
        "phone_verified": False,
        **more,
    }
    known = {name: value for name, value in data.items() if value is not None}
    try:
        return ExternalIdentity(provider, str(subject), email, is_verified, known)
    except ValueError as error:
        raise ProviderError(f"{provider} {error}") from None
