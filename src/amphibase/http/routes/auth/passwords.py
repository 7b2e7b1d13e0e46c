"""A password that is changed, or was forgotten."""

from amphibase.http.dependencies import CurrentDevice, Mounted, SignedInCaller
from amphibase.http.routes.route import built_in_router
from amphibase.http.schemas import ChangePassword, ForgotPassword, ResetPassword
from amphibase.rate_limits import client_of

router = built_in_router("/password")


@router.post("/change", status_code=204, summary="Change my password")
async def change_password(
    body: ChangePassword, db: Mounted, caller: SignedInCaller, device: CurrentDevice
) -> None:
    await db.rate_limiter.check_sign_in(str(caller.user_id), device.ip)
    await db.state.backend.accounts.change_password(
        caller, body.current_password, body.new_password
    )


@router.post(
    "/forgot",
    status_code=202,
    summary="Ask for a reset link",
    description="The response is the same whether there is such an account or not.",
)
async def forgot(body: ForgotPassword, db: Mounted, device: CurrentDevice) -> None:
    await db.rate_limiter.check_email("forgot", body.email, device.ip)
    await db.state.backend.accounts.forgot_password(body.email)


@router.post("/reset", status_code=204, summary="Set a new password by a reset link")
async def reset(body: ResetPassword, db: Mounted, device: CurrentDevice) -> None:
    await db.rate_limiter.check("reset", client_of(device.ip))
    await db.state.backend.accounts.reset_password(body.token, body.password)
