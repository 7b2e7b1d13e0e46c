"""One-time codes by text message: sent, and redeemed."""

import hmac
from collections.abc import Mapping

from amphibase.accounts.one_time_tokens import Kind
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.attempts import check_interval
from amphibase.gateway.auth.core import Core
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.serializers import user as user_json
from amphibase.gateway.auth.users import AuthUser

TEST_MESSAGE_ID = "test-otp"

SENT_AT: Mapping[str, str] = {
    "confirmation_token": "confirmation_sent_at",
    "phone_change_token": "phone_change_sent_at",
    "reauthentication_token": "reauthentication_sent_at",
}
"""The column of a user that says when the last code of a kind went out."""


def check_channel(core: Core, channel: str) -> None:
    """Raise AuthError for a channel that messages cannot go by; a hook decides on it by itself."""
    if channel not in ("", "sms") and not core.hooks.sends_sms:
        raise invalid(
            "Invalid channel, supported values are 'sms' or 'whatsapp'. 'whatsapp' is only "
            "supported if Twilio or Twilio Verify is used as the provider."
        )


async def send_code(
    core: Core, connection: SqlConnection, user: AuthUser, phone: str, kind: Kind
) -> str:
    """Send a code to a number; return the id of the message, empty where it has none.

    A number with a code for tests (`GOTRUE_SMS_TEST_OTP`) gets no message.

    Args:
        user: locked.

    Raises:
        AuthError: no hook sends text messages, the hook fails, the last message to the number
            went out only just now, or the project has sent as many as it may.
    """
    test_code = core.settings.test_code(phone)
    if test_code is not None:
        last = getattr(user.row, SENT_AT[kind])
        check_interval(last, core.settings.sms_max_frequency, codes.SMS_RATE_LIMIT)
        await core.sms_tokens.issue(connection, user.id, kind, phone, code=test_code)
    elif not core.hooks.sends_sms:
        raise AuthError(codes.NO_SMS_PROVIDER)
    else:
        await core.sms_limiter.check(kind, phone)
        token = await core.sms_tokens.issue(connection, user.id, kind, phone)
        await core.hooks.send_sms(connection, user_json(user), phone, token.code)
    await core.users.change(connection, user.id, **{SENT_AT[kind]: utc_now()})
    return "" if test_code is None else TEST_MESSAGE_ID


def message(id: str) -> dict[str, str]:
    """Return what a response says of a message, which has no id where a hook sends it."""
    return {"message_id": id} if id else {}


async def redeem(
    core: Core, connection: SqlConnection, phone: str, kind: Kind, code: str
) -> AuthUser | None:
    """Use a code up; return its user, or None where it is not valid."""
    if kind == "phone_change_token":
        user = await core.users.find_by_new_phone(connection, phone)
    else:
        user = await core.users.find_by_phone(connection, phone, lock=True)
    if user is None:
        return None
    test_code = core.settings.test_code(phone)
    if test_code is not None:
        is_valid = hmac.compare_digest(test_code.encode(), code.encode("utf-8", "surrogatepass"))
        return user if is_valid else None
    used = await core.sms_tokens.redeem_code(connection, user.id, code, kind, sent_to=phone)
    return user if used else None
