"""Captchas: whether the token that a client brings is good, by the service that issued it.

As in Supabase Auth (its `internal/security/captcha.go`): every request that signs up, signs in by a
password or sends a message brings a token, except those of the project's administration.
"""

from typing import Any

from pydantic import Field
from starlette.requests import Request

from amphibase.certificates import https_context
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.bearer import require_admin
from amphibase.gateway.auth.bodies import Body, read
from amphibase.gateway.auth.core import Core, address_of
from amphibase.gateway.auth.errors import AuthError
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth")

VERIFY_URLS = {
    "hcaptcha": "https://api.hcaptcha.com/siteverify",
    "turnstile": "https://challenges.cloudflare.com/turnstile/v0/siteverify",
}
"""https://docs.hcaptcha.com/#verify-the-user-response-server-side,
https://developers.cloudflare.com/turnstile/get-started/server-side-validation/"""

PROTECTED = frozenset(("/signup", "/token", "/otp", "/magiclink", "/recover", "/resend", "/sso"))


class _Security(Body):
    captcha_token: str = ""


class _CaptchaBody(Body, go_type="captchaRequest"):
    gotrue_meta_security: _Security = Field(default_factory=_Security)


async def check_captcha(core: Core, request: Request) -> None:
    """Check the token of a request to one of the endpoints that need one.

    Raises:
        AuthError: it is missing or not good, or the service does not say.
    """
    if await _is_administration(core, request):
        return
    grant_type = request.query_params.get("grant_type")
    if request.url.path.endswith("/token") and grant_type != "password":
        return
    body = await read(request, _CaptchaBody, required=False)
    token = body.gotrue_meta_security.captcha_token.strip()
    if not token:
        raise _disallowed("no captcha_token found")
    result = await _verify(core, token, address_of(request))
    if result.get("success") is not True:
        errors = result.get("error-codes")
        raise _disallowed(", ".join(map(str, errors)) if isinstance(errors, list) else "")


async def _is_administration(core: Core, request: Request) -> bool:
    try:
        await require_admin(core, request)
    except AuthError:
        return False
    return True


async def _verify(core: Core, token: str, address: str | None) -> dict[str, Any]:
    import httpx  # few projects have captchas

    settings = core.settings
    assert settings.security_captcha_secret is not None
    form = {
        "secret": settings.security_captcha_secret.get_secret_value().strip(),
        "response": token,
        **({"remoteip": address} if address else {}),
    }
    url = VERIFY_URLS[settings.security_captcha_provider]
    try:
        async with httpx.AsyncClient(
            timeout=settings.security_captcha_timeout.total_seconds(),
            follow_redirects=False,
            verify=https_context(),
        ) as client:
            response = await client.post(url, data=form)
        result = response.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        logger.error("A captcha cannot be verified by %s: %s", url, type(error).__name__)
        result = None
    if not isinstance(result, dict):
        raise AuthError(codes.UNEXPECTED_FAILURE, "captcha verification process failed")
    return result


def _disallowed(reason: str) -> AuthError:
    return AuthError(codes.CAPTCHA_FAILED, f"captcha protection: request disallowed ({reason})")
