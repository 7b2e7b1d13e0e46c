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
    "workos",
    "x",
    "zoom",
]


async def health(core: Core, request: Request) -> Response:
    """Respond to `GET /health`."""
    return respond(
        {
            "version": COMPATIBLE,
            "name": "GoTrue",
            "description": "Users and sign-in by Amphibase, in the protocol of GoTrue",
        }
    )


async def settings(core: Core, request: Request) -> Response:
    """Respond to `GET /settings`: what a sign-in form needs to know."""
    current = core.settings
    return respond(
        {
            "external": {
                "anonymous_users": current.external_anonymous_users_enabled,
                **{name: current.provider(name) is not None for name in PROVIDERS},
                "email": current.external_email_enabled,
                "phone": current.external_phone_enabled,
            },
            "disable_signup": current.disable_signup,
            "mailer_autoconfirm": current.mailer_autoconfirm,
            "phone_autoconfirm": current.sms_autoconfirm,
            "sms_provider": "",
            "saml_enabled": False,
        }
    )


async def jwks(core: Core, request: Request) -> Response:
    """Respond to `GET /.well-known/jwks.json`: the keys that users' tokens are verified with."""
    return respond(core.tokens.jwks(), headers={"cache-control": "public, max-age=600"})


async def sso(core: Core, request: Request) -> Response:
    """Respond to `POST /sso`: to a company's own sign-in, which cannot be enabled yet."""
    raise AuthError(codes.SAML_DISABLED)


def unsupported_provider(name: str) -> AuthError:
    """Return the error for a provider that is not enabled."""
    if name in PROVIDERS:
        return invalid("Unsupported provider: provider is not enabled")
    return invalid(f"Unsupported provider: Provider {name} could not be found")
