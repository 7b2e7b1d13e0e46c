"""/auth/oauth and /auth/identities: sign-in through third parties."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Form, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from amphibase.backend import ANONYMOUS, OAuthRequest, UserIdentity
from amphibase.http.dependencies import CurrentDevice, Mounted, SignedInCaller
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.http.routes.route import router
from amphibase.http.schemas import (
    CodeChallenge,
    IdentityRead,
    LinkIdentity,
    ListOf,
    RedeemCode,
    RedirectUrl,
)
from amphibase.rate_limits import client_of
from amphibase.services.auth import AuthResult

NO_STORE = {"Cache-Control": "no-store"}
COOKIE_SECONDS = 600

Respond = Callable[[Response, AuthResult[Any]], BaseModel]
Provider = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_:-]{0,49}$")]
Field = Annotated[str, Form()]


def routes(respond: Respond, signed_in_response: Any) -> FastPathRouter:
    """Return the routes.

    Args:
        respond: returns the response to a sign-in.
        signed_in_response: its shape.
    """
    oauth = router("", "auth")

    @oauth.get(
        "/oauth/{provider}",
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

    @oauth.get("/oauth/{provider}/authorize", include_in_schema=False)
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

    @oauth.get("/oauth/{provider}/callback", include_in_schema=False)
    async def callback(provider: Provider, db: Mounted, request: Request) -> RedirectResponse:
        return await receive(provider, db, request, dict(request.query_params))

    @oauth.post("/oauth/{provider}/callback", include_in_schema=False)
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
        return await receive(provider, db, request, fields)

    async def receive(
        provider: str, db: Mounted, request: Request, fields: dict[str, str]
    ) -> RedirectResponse:
        name = cookie_name(fields.get("state", ""))
        secret = request.cookies.get(name, "")
        url = await db.state.backend.accounts.identities.receive(provider, fields, secret)
        response = RedirectResponse(url, 303, NO_STORE)
        response.delete_cookie(name, path=request.url.path)
        return response

    @oauth.post(
        "/oauth/token",
        response_model=signed_in_response,
        summary="Open a session by the code of a sign-in through a third party",
    )
    async def token(
        body: RedeemCode, db: Mounted, device: CurrentDevice, response: Response
    ) -> Any:
        await db.rate_limiter.check("oauth", client_of(device.ip))
        result = await db.state.auth.redeem(body.code, body.code_verifier, device=device)
        return respond(response, result)

    @oauth.get("/identities", response_model=ListOf[IdentityRead], summary="How I sign in")
    async def identities(db: Mounted, caller: SignedInCaller) -> Any:
        listed = await db.state.backend.accounts.identities.list(caller)
        return ListOf[IdentityRead](items=[_read(identity) for identity in listed])

    @oauth.post(
        "/identities/{provider}",
        response_model=RedirectUrl,
        summary="Begin to sign in through a third party too",
        description="Send the browser to `url`; POST /auth/identities takes the code.",
    )
    async def begin_link(
        provider: Provider,
        body: LinkIdentity,
        db: Mounted,
        caller: SignedInCaller,
        response: Response,
    ) -> Any:
        response.headers.update(NO_STORE)
        request = OAuthRequest(
            provider=provider, redirect_to=body.redirect_to, code_challenge=body.code_challenge
        )
        url = await db.state.backend.accounts.identities.begin(caller, request)
        return RedirectUrl(url=url)

    @oauth.post(
        "/identities",
        status_code=201,
        response_model=IdentityRead,
        summary="Link the identity of a code",
    )
    async def link(body: RedeemCode, db: Mounted, caller: SignedInCaller) -> Any:
        linked = await db.state.backend.accounts.identities.link(
            caller, body.code, body.code_verifier
        )
        return _read(linked)

    @oauth.delete(
        "/identities/{id}", status_code=204, summary="No longer sign in through a third party"
    )
    async def unlink(id: UUID, db: Mounted, caller: SignedInCaller) -> None:
        await db.state.backend.accounts.identities.unlink(caller, id)

    return oauth


def cookie_name(state: str) -> str:
    """Return the name of the cookie of a sign-in; several may be under way in one browser."""
    return f"oauth-{hashlib.sha256(state.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _read(identity: UserIdentity) -> IdentityRead:
    return IdentityRead.model_validate(identity, from_attributes=True)
