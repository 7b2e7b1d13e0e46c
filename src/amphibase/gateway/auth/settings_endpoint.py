"""Answers, and what everybody may ask: health, settings, public keys, third-party sign-in."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid

COMPATIBLE = "v2.189.0"
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


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return JSONResponse(body, status, headers)


def session(body: Mapping[str, Any]) -> Response:
    """An answer with tokens, which nobody on the way may keep (RFC 6749, section 5.1)."""
    return answer(body, headers={"cache-control": "no-store"})


async def health(core: Core, request: Request) -> Response:
    """`GET /health`."""
    return answer(
        {
            "version": COMPATIBLE,
            "name": "GoTrue",
            "description": "Users and sign-in by Amphibase, in the protocol of GoTrue",
        }
    )


async def settings(core: Core, request: Request) -> Response:
    """`GET /settings`: what a sign-in form needs to know."""
    known = core.settings
    return answer(
        {
            "external": {
                "anonymous_users": known.external_anonymous_users_enabled,
                **dict.fromkeys(PROVIDERS, False),
                "email": known.external_email_enabled,
                "phone": known.external_phone_enabled,
            },
            "disable_signup": known.disable_signup,
            "mailer_autoconfirm": known.mailer_autoconfirm,
            "phone_autoconfirm": known.sms_autoconfirm,
            "sms_provider": "",
            "saml_enabled": False,
        }
    )


async def jwks(core: Core, request: Request) -> Response:
    """`GET /.well-known/jwks.json`: the keys that users' tokens are verified with."""
    return answer(core.tokens.jwks(), headers={"cache-control": "public, max-age=600"})


async def authorize(core: Core, request: Request) -> Response:
    """`GET /authorize`: to a third party's sign-in; none can be enabled yet."""
    raise unsupported_provider(request.query_params.get("provider", ""))


async def sso(core: Core, request: Request) -> Response:
    """`POST /sso`: to a company's own sign-in, which there is none of."""
    raise AuthError(404, "saml_provider_disabled", "SAML 2.0 is disabled")


def unsupported_provider(name: str) -> AuthError:
    """What is said of a third party."""
    if name in PROVIDERS:
        return invalid("Unsupported provider: provider is not enabled")
    return invalid(f"Unsupported provider: Provider {name} could not be found")
