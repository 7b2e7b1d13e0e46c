"""/auth: signing up, in and out, sessions, passwords, confirmation of addresses."""

from dataclasses import asdict
from functools import cache
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Response
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel, ValidationError

from amphibase.backend import SignOutScope
from amphibase.errors import InvalidCredentials
from amphibase.http.dependencies import CurrentCaller, CurrentDevice, Mounted, SignedInCaller
from amphibase.http.routes import oauth, pages
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.http.routes.route import router
from amphibase.http.schemas import (
    AcceptInvitation,
    AwaitingConfirmation,
    ChangeEmail,
    ChangePassword,
    ConfirmEmailChange,
    EmailChangeConfirmed,
    EmailVerified,
    ForgotPassword,
    ListOf,
    Refresh,
    ResendVerification,
    ResetPassword,
    SessionRead,
    SignedInResponse,
    SignIn,
    SignUp,
    VerifyEmail,
)
from amphibase.models import User
from amphibase.rate_limits import client_of
from amphibase.records.derived import read_model
from amphibase.records.profile import to_metadata, with_own_columns
from amphibase.services.auth import AuthResult

NO_STORE = {"Cache-Control": "no-store"}


@cache
def routes(user: type[User]) -> FastPathRouter:
    """Return the routes, with responses in the shape of the profile's class; one router for all
    apps."""
    auth = router("/auth", "auth")
    user_read: Any = read_model(user)
    signed_in_response: Any = SignedInResponse[user_read]
    awaiting_confirmation: Any = AwaitingConfirmation[user_read]
    sign_up_body: Any = with_own_columns(user, SignUp)
    accept_invitation_body: Any = with_own_columns(user, AcceptInvitation)
    email_verified: Any = EmailVerified[user_read]

    def respond(response: Response, result: AuthResult[Any]) -> BaseModel:
        response.headers.update(NO_STORE)
        profile = user_read.model_validate(result.user)
        if result.tokens is None:
            waiting: BaseModel = awaiting_confirmation(user=profile)
            return waiting
        tokens = result.tokens
        signed_in: BaseModel = signed_in_response(
            access_token=tokens.access_token,
            expires_in=tokens.expires_in,
            expires_at=tokens.expires_at,
            refresh_token=tokens.refresh_token,
            user=profile,
        )
        return signed_in

    @auth.post(
        "/sign-up",
        status_code=201,
        response_model=signed_in_response | awaiting_confirmation,
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
        return respond(response, result)

    @auth.post(
        "/invitations/accept",
        response_model=signed_in_response,
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
        return respond(response, result)

    @auth.post("/sign-in", response_model=signed_in_response, summary="Open a session")
    async def sign_in(body: SignIn, db: Mounted, device: CurrentDevice, response: Response) -> Any:
        await db.rate_limiter.check_sign_in(body.email, device.ip)
        result = await db.state.auth.sign_in(body.email, body.password, device=device)
        return respond(response, result)

    @auth.post(
        "/token",
        response_model=signed_in_response,
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

    @auth.post("/refresh", response_model=signed_in_response, summary="Continue a session")
    async def refresh(body: Refresh, db: Mounted, response: Response) -> Any:
        return respond(response, await db.state.auth.refresh(body.refresh_token))

    @auth.post("/sign-out", status_code=204, summary="End this session, the others, or all")
    async def sign_out(
        db: Mounted,
        caller: SignedInCaller,
        scope: Annotated[SignOutScope, Query()] = "local",
    ) -> None:
        await db.state.backend.accounts.sign_out(caller, scope)

    @auth.get("/sessions", response_model=ListOf[SessionRead], summary="Where I am signed in")
    async def sessions(db: Mounted, caller: SignedInCaller) -> Any:
        user_sessions = await db.state.backend.accounts.sessions(caller)
        return ListOf[SessionRead](
            items=[
                SessionRead(
                    id=session.id,
                    user_agent=session.user_agent,
                    ip=session.ip,
                    created_at=session.created_at,
                    refreshed_at=session.refreshed_at,
                    current=session.id == caller.session_id,
                )
                for session in user_sessions
            ]
        )

    @auth.delete("/sessions/{id}", status_code=204, summary="End one of my sessions")
    async def end_session(id: UUID, db: Mounted, caller: SignedInCaller) -> None:
        await db.state.backend.accounts.end_session(caller, id)

    @auth.post("/password/change", status_code=204, summary="Change my password")
    async def change_password(
        body: ChangePassword, db: Mounted, caller: SignedInCaller, device: CurrentDevice
    ) -> None:
        await db.rate_limiter.check_sign_in(str(caller.user_id), device.ip)
        await db.state.backend.accounts.change_password(
            caller, body.current_password, body.new_password
        )

    @auth.post(
        "/password/forgot",
        status_code=202,
        summary="Ask for a reset link",
        description="The response is the same whether there is such an account or not.",
    )
    async def forgot(body: ForgotPassword, db: Mounted, device: CurrentDevice) -> None:
        await db.rate_limiter.check_email("forgot", body.email, device.ip)
        await db.state.backend.accounts.forgot_password(body.email)

    @auth.post("/password/reset", status_code=204, summary="Set a new password by a reset link")
    async def reset(body: ResetPassword, db: Mounted, device: CurrentDevice) -> None:
        await db.rate_limiter.check("reset", client_of(device.ip))
        await db.state.backend.accounts.reset_password(body.token, body.password)

    @auth.post("/email/verify", response_model=email_verified, summary="Confirm my address")
    async def verify(
        body: VerifyEmail, db: Mounted, device: CurrentDevice, response: Response
    ) -> Any:
        response.headers.update(NO_STORE)
        signed_in = await db.state.backend.accounts.verify_email(
            body.token, password=body.password, device=device
        )
        profile = user_read.model_validate(await db.state.users.of(signed_in.account))
        required = signed_in.password_required
        if signed_in.tokens is None:
            return email_verified(user=profile, password_required=required)
        tokens = asdict(signed_in.tokens)
        return email_verified(user=profile, password_required=required, **tokens)

    @auth.post(
        "/email/resend",
        status_code=202,
        summary="Ask for the confirmation mail again",
        description="The response is the same whether there is such an account or not.",
    )
    async def resend(body: ResendVerification, db: Mounted, device: CurrentDevice) -> None:
        await db.rate_limiter.check_email("resend", body.email, device.ip)
        await db.state.backend.accounts.resend_verification(body.email, device=device)

    @auth.post(
        "/email/change",
        status_code=202,
        summary="Ask for the links that change my address",
        description="The response is the same whether the new address has an account or not.",
    )
    async def change_email(
        body: ChangeEmail, db: Mounted, caller: SignedInCaller, device: CurrentDevice
    ) -> None:
        await db.rate_limiter.check_sign_in(str(caller.user_id), device.ip)
        await db.rate_limiter.check_email("resend", body.email, device.ip)
        await db.state.backend.accounts.change_email(caller, body.current_password, body.email)

    @auth.post(
        "/email/change/confirm",
        response_model=EmailChangeConfirmed,
        summary="Confirm a change of address",
        description="The link at the new address is enough for the user who is signed in; "
        "without a token, both links are needed.",
    )
    async def confirm_email_change(
        body: ConfirmEmailChange, db: Mounted, caller: CurrentCaller, device: CurrentDevice
    ) -> Any:
        await db.rate_limiter.check("reset", client_of(device.ip))
        account = await db.state.backend.accounts.confirm_email_change(caller, body.token)
        if account is not None:
            await db.state.users.of(account)
        return EmailChangeConfirmed(changed=account is not None)

    auth.include_router(pages.router)
    auth.include_router(oauth.routes(respond, signed_in_response))
    return auth
