"""/auth/oauth: a browser's way to a third party and back."""

import hashlib
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import Form, Path, Query, Request
from fastapi.responses import RedirectResponse

from amphibase.backend import ANONYMOUS, OAuthRequest
from amphibase.http.dependencies import CurrentDevice, Mounted
from amphibase.http.routes.auth.responses import NO_STORE
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import CodeChallenge
from amphibase.rate_limits import client_of

COOKIE_SECONDS = 600

Provider = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_:-]{0,49}$")]
Field = Annotated[str, Form()]

router = built_in_router("/oauth/{provider}")


@router.get(
    "",
    status_code=302,
    response_class=RedirectResponse,
    summary="Sign in through a third party",
    description="For the browser. It comes back to `redirect_to` with a `code`, which "
    "POST /auth/oauth/token takes, or with `error` and `error_description`.",
)
async def begin(
    provider: Provider,
    db: Mounted,
    device: CurrentDevice,
    code_challenge: Annotated[CodeChallenge, Query()],
    code_challenge_method: Literal["S256"],
    redirect_to: Annotated[str | None, Query(max_length=2048)] = None,
) -> RedirectResponse:
    await db.rate_limiter.check("oauth", client_of(device.ip))
    request = OAuthRequest(
        provider=provider, redirect_to=redirect_to, code_challenge=code_challenge
    )
    url = await db.state.backend.accounts.identities.begin(ANONYMOUS, request)
    return RedirectResponse(url, 302, NO_STORE)


@router.get("/authorize", include_in_schema=False)
async def authorize(
    provider: Provider, db: Mounted, state: Annotated[str, Query(max_length=100)]
) -> RedirectResponse:
    target = await db.state.backend.accounts.identities.authorize(provider, state)
    response = RedirectResponse(target.url, 302, NO_STORE)
    callback = urlsplit(f"{db.settings.routes_url}/auth/oauth/{provider}/callback")
    response.set_cookie(
        cookie_name(state),
        target.secret,
        max_age=COOKIE_SECONDS,
        path=callback.path,
        # A form of another site brings no cookie that is not for other sites.
        secure=callback.scheme == "https" or target.posts_back,
        samesite="none" if target.posts_back else "lax",
        httponly=True,
    )
    return response


@router.get("/callback", include_in_schema=False)
async def callback(provider: Provider, db: Mounted, request: Request) -> RedirectResponse:
    return await _receive(provider, db, request, dict(request.query_params))


@router.post("/callback", include_in_schema=False)
async def posted_callback(
    provider: Provider,
    db: Mounted,
    request: Request,
    state: Field = "",
    code: Field = "",
    error: Field = "",
    user: Field = "",
    iss: Annotated[str | None, Form()] = None,
) -> RedirectResponse:
    fields = {"state": state, "code": code, "error": error, "user": user}
    if iss is not None:
        fields["iss"] = iss
    return await _receive(provider, db, request, fields)


async def _receive(
    provider: str, db: Mounted, request: Request, fields: dict[str, str]
) -> RedirectResponse:
    name = cookie_name(fields.get("state", ""))
    secret = request.cookies.get(name, "")
    url = await db.state.backend.accounts.identities.receive(provider, fields, secret)
    response = RedirectResponse(url, 303, NO_STORE)
    response.delete_cookie(name, path=request.url.path)
    return response


def cookie_name(state: str) -> str:
    """Return the name of the cookie of a sign-in; several may be under way in one browser."""
    return f"oauth-{hashlib.sha256(state.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
