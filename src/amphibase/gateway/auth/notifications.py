"""Emails that tell users what has changed of their account, as far as a project wants them."""

from collections.abc import Mapping
from enum import Enum

from starlette.requests import Request

from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.users import AuthUser
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth")


class Notification(Enum):
    """A change, as the settings name it, with the subject and the text of its email."""

    PASSWORD_CHANGED = (
        "password_changed",
        "Your password was changed",
        "The password of your account has been changed.",
    )
    EMAIL_CHANGED = (
        "email_changed",
        "Your email address was changed",
        "The email address of your account has been changed from {OldEmail} to {Email}.",
    )
    PHONE_CHANGED = (
        "phone_changed",
        "Your phone number was changed",
        "The phone number of your account has been changed from {OldPhone} to {Phone}.",
    )
    IDENTITY_LINKED = (
        "identity_linked",
        "A new way to sign in to your account",
        "Your account {Email} can be signed in to by {Provider} from now on.",
    )
    IDENTITY_UNLINKED = (
        "identity_unlinked",
        "A way to sign in to your account was removed",
        "Your account {Email} can no longer be signed in to by {Provider}.",
    )
    MFA_FACTOR_ENROLLED = (
        "mfa_factor_enrolled",
        "A second factor was added to your account",
        "A second factor of the type {FactorType} has been added to your account.",
    )
    MFA_FACTOR_UNENROLLED = (
        "mfa_factor_unenrolled",
        "A second factor was removed from your account",
        "A second factor of the type {FactorType} has been removed from your account.",
    )

    def __init__(self, key: str, subject: str, text: str) -> None:
        self.key = key
        self.subject = subject
        self.text = text


_OF_HOOK: Mapping[str, str] = {
    "OldEmail": "old_email",
    "OldPhone": "old_phone",
    "Provider": "provider",
    "FactorType": "factor_type",
}
"""What a hook calls the values of templates."""


async def notify(
    core: Core,
    request: Request,
    notification: Notification,
    user: AuthUser,
    **values: str,
) -> None:
    """Tell a user of a change; call it once the change is committed.

    What keeps the email from being sent is logged, since the change is made.

    Args:
        user: whom the email goes to, at the address that they have here.
        values: further values of the template, such as `Provider`.
    """
    email = user.row.email or ""
    if not email or not getattr(core.settings, f"mailer_notifications_{notification.key}_enabled"):
        return
    values = {"Email": email, **values}
    try:
        await core.email_quota.take()
        message = core.templates.notification(
            f"{notification.key}_notification",
            email,
            notification.subject,
            notification.text.format(**values),
            {**values, "Data": user.row.raw_user_meta_data or {}},
            redirect_to=core.redirects.of(request),
            user_id=user.id,
            details={_OF_HOOK[name]: value for name, value in values.items() if name in _OF_HOOK},
        )
    except AuthError as error:
        logger.warning("%s: no email tells of %s", error.message, notification.key)
    else:
        core.send(message)


async def notify_phone(core: Core, request: Request, before: AuthUser, phone: str) -> None:
    """Tell a user of another number, and of the way to sign in that a first one is.

    Args:
        before: the user before the change.
        phone: the number after it.
    """
    old = before.row.phone or ""
    if old and old != phone:
        await notify(core, request, Notification.PHONE_CHANGED, before, Phone=phone, OldPhone=old)
    if all(identity.provider != "phone" for identity in before.identities):
        await notify(core, request, Notification.IDENTITY_LINKED, before, Provider="phone")
