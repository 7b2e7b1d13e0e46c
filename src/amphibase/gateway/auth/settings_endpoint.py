"""Endpoints without a user: health, settings, public keys, third-party sign-in."""

from starlette.requests import Request
from starlette.responses import Response

from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.responses import respond

COMPATIBLE = "v2.196.0"
"""The version of Supabase's Auth whose protocol this is."""

PROVIDERS = [
    "apple",
    "azure",
    "bitbucket",
    "discord",
    "facebook",
    "figma",
    "fly",
    "github",
    "gitlab",
    "google",
    "kakao",
    "keycloak",
    "linkedin",
    "linkedin_oidc",
    "notion",
    "slack",
    "slack_oidc",
    "snapchat",
    "spotify",
    "twitch",
    "twitter",
    "vercel_marketplace",
    "workos",
    "x",
    "zoom",
]
LISTED = tuple(name for name in PROVIDERS if name not in ("vercel_marketplace", "x"))
"""Those that `/settings` names."""

_OPENID_SUPPORT = {
    "scopes_supported": ["openid", "profile", "email", "phone", "offline_access"],
    "response_types_supported": ["code"],
    "response_modes_supported": ["query"],
    "grant_types_supported": ["authorization_code", "refresh_token"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256", "HS256", "ES256"],
    "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
    "claims_supported": [
        "sub",
        "aud",
        "iss",
        "exp",
        "iat",
        "auth_time",
        "nonce",
        "email",
        "email_verified",
        "phone_number",
        "phone_number_verified",
        "name",
        "picture",
        "preferred_username",
        "updated_at",
    ],
    "code_challenge_methods_supported": ["S256", "plain"],
}


async def health(core: Core, request: Request) -> Response:
    """Respond to `GET /health`."""
    return respond(
        {
            "version": COMPATIBLE,
            "name": "GoTrue",
            "description": "GoTrue is a user registration and authentication API",
        }
    )


async def settings(core: Core, request: Request) -> Response:
    """Respond to `GET /settings`: what a sign-in form needs to know."""
    current = core.settings
    return respond(
        {
            "external": {
                "anonymous_users": current.external_anonymous_users_enabled,
                **{name: current.provider(name) is not None for name in LISTED},
                "email": current.external_email_enabled,
                "phone": current.external_phone_enabled,
            },
            "disable_signup": current.disable_signup,
            "mailer_autoconfirm": current.mailer_autoconfirm,
            "phone_autoconfirm": current.sms_autoconfirm,
            "sms_provider": "",
            "saml_enabled": False,
            # GoTrue says so of no key at all, too.
            "saml_private_key_next_configured": True,
            "passkeys_enabled": False,
        }
    )


async def jwks(core: Core, request: Request) -> Response:
    """Respond to `GET /.well-known/jwks.json`: the keys that users' tokens are verified with."""
    return respond(core.tokens.jwks(), headers={"cache-control": "public, max-age=600"})


async def openid_configuration(core: Core, request: Request) -> Response:
    """Respond to `GET /.well-known/openid-configuration`: where programs that verify users' tokens
    find the keys (OpenID Connect Discovery 1.0, section 4).

    As Supabase Auth does, it names the endpoints of an OAuth server whether or not there is one.
    """
    issuer = core.settings.issuer
    base = issuer.rstrip("/")
    return respond(
        {
            "issuer": issuer,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "userinfo_endpoint": f"{base}/oauth/userinfo",
            **_OPENID_SUPPORT,
        },
        headers={"cache-control": "public, max-age=600"},
    )


async def sso(core: Core, request: Request) -> Response:
    """Respond to `/sso`: to a company's own sign-in, which cannot be enabled yet."""
    raise AuthError(codes.SAML_DISABLED)


def unsupported_provider(name: str) -> AuthError:
    """Return the error for a provider that is not enabled."""
    if name in PROVIDERS:
        return invalid("Unsupported provider: provider is not enabled")
    return invalid(f"Unsupported provider: Provider {name} could not be found")
