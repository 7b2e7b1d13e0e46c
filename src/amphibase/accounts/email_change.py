"""A change of a user's address: stored until emails to the new and the old address confirm it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from amphibase.accounts.engine import AccountEngine
from amphibase.accounts.one_time_tokens import EMAIL_CHANGE, EmailToken, Kind
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection


@dataclass(frozen=True, slots=True)
class EmailChangeTokens:
    """The tokens of the two emails.

    Args:
        new: for the address that the user changes to.
        current: for the address that the user has; None where nothing is sent there.
    """

    new: EmailToken
    current: EmailToken | None


class EmailChanges:
    """Begins and confirms changes of addresses; every method runs in the caller's transaction."""

    def __init__(self, engine: AccountEngine) -> None:
        self._engine = engine
        self._tokens = engine.tokens

    async def begin(
        self,
        connection: SqlConnection,
        user: Row[Any],
        email: str,
        *,
        confirms_current: bool = True,
        pkce: bool = False,
    ) -> EmailChangeTokens:
        """Store the new address until it is confirmed; an earlier change is dropped.

        Args:
            user: locked.
            email: the new address, in lower case; whether another user has it is checked when
                it is confirmed.
            confirms_current: whether an email goes to the address that the user has.
            pkce: whether the links lead to a code to exchange instead of a session.
        """
        await self._tokens.revoke(connection, user.id, *EMAIL_CHANGE)
        await self._engine.users.change(
            connection,
            user.id,
            email_change=email,
            email_change_sent_at=utc_now(),
            email_change_confirm_status=0,
        )

        async def issue(kind: Kind, address: str) -> EmailToken:
            return await self._tokens.issue(connection, user.id, kind, address, pkce=pkce)

        new = await issue("email_change_token_new", email)
        if not (confirms_current and user.email):
            return EmailChangeTokens(new, None)
        return EmailChangeTokens(new, await issue("email_change_token_current", user.email))

    async def confirm(
        self, connection: SqlConnection, user: Row[Any], *, needs_other: bool
    ) -> bool:
        """Take one confirmation, whose token has been used up; return whether it was the last.

        Args:
            user: locked.
            needs_other: whether the email to the other address has to be followed too.

        Raises:
            EmailAlreadyRegistered: another user has the address by now.
        """
        if needs_other and user.email_change_confirm_status == 0:
            await self._engine.users.change(connection, user.id, email_change_confirm_status=1)
            return False
        await self._engine.change_email(connection, user, user.email_change)
        return True
