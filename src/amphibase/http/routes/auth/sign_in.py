"""How a session begins and goes on."""

from typing import Annotated, Any

from fastapi import Depends, Response
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import ValidationError

from amphibase.errors import InvalidCredentials
from amphibase.http.dependencies import CurrentDevice, Mounted
from amphibase.http.routes.auth.responses import SignInResponses
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import RedeemCode, Refresh, SignIn
from amphibase.rate_limits import client_of


def routes(responses: SignInResponses) -> FastPathRouter:
    """Return the routes, which respond with tokens and profile."""
    router = built_in_router()

    @router.post("/sign-in", response_model=responses.signed_in, summary="Open a session")
    async def sign_in(body: SignIn, db: Mounted, device: CurrentDevice, response: Response) -> Any:
        await db.rate_limiter.check_sign_in(body.email, device.ip)
        result = await db.state.auth.sign_in(body.email, body.password, device=device)
        return responses.of(result, response)

    @router.post(
        "/token",
        response_model=responses.signed_in,
        summary="Open a session, by the form of OAuth2",
        description="What the Authorize button of this page uses; `username` is the address.",
    )
    async def token(
        form: Annotated[OAuth2PasswordRequestForm, Depends()],
        db: Mounted,
        device: CurrentDevice,
        response: Response,
    ) -> Any:
        try:
            body = SignIn(email=form.username, password=form.password)
        except ValidationError:
            raise InvalidCredentials from None
        return await sign_in(body, db, device, response)

    @router.post(
        "/oauth/token",
        response_model=responses.signed_in,
        summary="Open a session by the code of a sign-in through a third party",
    )
    async def redeem(
        body: RedeemCode, db: Mounted, device: CurrentDevice, response: Response
    ) -> Any:
        await db.rate_limiter.check("oauth", client_of(device.ip))
        result = await db.state.auth.redeem(body.code, body.code_verifier, device=device)
        return responses.of(result, response)

    @router.post("/refresh", response_model=responses.signed_in, summary="Continue a session")
    async def refresh(body: Refresh, db: Mounted, response: Response) -> Any:
        return responses.of(await db.state.auth.refresh(body.refresh_token), response)

    return router
