"""Phone numbers of accounts: what the proof of one changes."""

from typing import Any

from sqlalchemy import Row

from amphibase.accounts.engine import AccountEngine
from amphibase.accounts.user_states import is_banned
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection


def is_unproven_by_phone(user: Row[Any]) -> bool:
    """Return whether the account is what an unconfirmed sign-up with a number left, and no more.

    One that has an address, was invited, or was signed in to belongs to somebody, whom a stranger
    who types the number must not touch.
    """
    return (
        user.phone_confirmed_at is None
        and not user.email
        and user.invited_at is None
        and user.last_sign_in_at is None
        and not is_banned(user)
    )


async def prove_phone(engine: AccountEngine, connection: SqlConnection, user: Row[Any]) -> None:
    """Record that the number is the user's, who is not anonymous after that.

    Args:
        user: locked.
    """
    if user.phone_confirmed_at is None:
        await engine.tokens.revoke(connection, user.id)
        await engine.users.change(
            connection, user.id, phone_confirmed_at=utc_now(), is_anonymous=False
        )


async def change_phone(
    engine: AccountEngine, connection: SqlConnection, user: Row[Any], phone: str
) -> None:
    """Set another number of the user, which is proven, and add the identity of it.

    Args:
        user: locked.
        phone: digits alone (E.164).

    Raises:
        Conflict: another user has the number by now.
    """
    await engine.tokens.revoke(connection, user.id)
    await engine.users.change(
        connection,
        user.id,
        phone=phone,
        phone_confirmed_at=utc_now(),
        phone_change="",
        is_anonymous=False,
    )
    await engine.users.set_identity(connection, user.id, "phone", phone, verified=True)
