"""An address that waits for its confirmation, or is changed."""

from typing import Any

from amphibase.http.dependencies import CurrentCaller, CurrentDevice, Mounted, SignedInCaller
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import (
    ChangeEmail,
    ConfirmEmailChange,
    EmailChangeConfirmed,
    ResendVerification,
)
from amphibase.rate_limits import client_of

router = built_in_router("/email")


@router.post(
    "/resend",
    status_code=202,
    summary="Ask for the confirmation mail again",
    description="The response is the same whether there is such an account or not.",
)
async def resend(body: ResendVerification, db: Mounted, device: CurrentDevice) -> None:
    await db.rate_limiter.check_email("resend", body.email, device.ip)
    await db.state.backend.accounts.resend_verification(body.email, device=device)


@router.post(
    "/change",
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


@router.post(
    "/change/confirm",
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
