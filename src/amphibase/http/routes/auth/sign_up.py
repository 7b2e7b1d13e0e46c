"""How an account comes to be: a sign-up, an invitation, and the confirmation of an address."""

from dataclasses import asdict
from typing import Any

from fastapi import Response

from amphibase.http.dependencies import CurrentDevice, Mounted
from amphibase.http.routes.auth.responses import NO_STORE, SignInResponses
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import AcceptInvitation, SignUp, VerifyEmail
from amphibase.models import User
from amphibase.rate_limits import client_of
from amphibase.records.profile import to_metadata, with_own_columns


def routes(user: type[User], responses: SignInResponses) -> FastPathRouter:
    """Return the routes, which take and return the fields of the profile's class."""
    router = built_in_router()
    sign_up_body: Any = with_own_columns(user, SignUp)
    accept_invitation_body: Any = with_own_columns(user, AcceptInvitation)

    @router.post(
        "/sign-up",
        status_code=201,
        response_model=responses.signed_in | responses.awaiting_confirmation,
        summary="Make an account",
    )
    async def sign_up(
        new: sign_up_body, db: Mounted, device: CurrentDevice, response: Response
    ) -> Any:
        await db.rate_limiter.check("sign-up", client_of(device.ip))
        result = await db.state.auth.sign_up(
            new.email,
            new.password,
            name=new.name,
            user_metadata=to_metadata(user, new),
            device=device,
        )
        return responses.of(result, response)

    @router.post(
        "/invitations/accept",
        response_model=responses.signed_in,
        summary="Accept an invitation with a password",
    )
    async def accept_invitation(
        body: accept_invitation_body, db: Mounted, device: CurrentDevice, response: Response
    ) -> Any:
        await db.rate_limiter.check("reset", client_of(device.ip))
        result = await db.state.auth.accept_invitation(
            body.token,
            body.password,
            name=body.name,
            user_metadata=to_metadata(user, body),
            device=device,
        )
        return responses.of(result, response)

    @router.post(
        "/email/verify", response_model=responses.email_verified, summary="Confirm my address"
    )
    async def verify(
        body: VerifyEmail, db: Mounted, device: CurrentDevice, response: Response
    ) -> Any:
        response.headers.update(NO_STORE)
        signed_in = await db.state.backend.accounts.verify_email(
            body.token, password=body.password, device=device
        )
        profile = responses.profile.model_validate(await db.state.users.of(signed_in.account))
        required = signed_in.password_required
        tokens = {} if signed_in.tokens is None else asdict(signed_in.tokens)
        return responses.email_verified(user=profile, password_required=required, **tokens)

    return router
