"""Single-use tokens that are sent by email: hashed at rest, and valid for a limited time."""

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, delete, func, insert, or_, select

from amphibase.accounts.sessions import digest, new_token
from amphibase.column_defaults import utc_now, uuid7
from amphibase.database.sql_connection import SqlConnection
from amphibase.schema.tables import Tables

LIFETIME = timedelta(hours=1)
PKCE_PREFIX = "pkce_"
Kind = Literal[
    "confirmation_token",
    "recovery_token",
    "email_change_token_current",
    "email_change_token_new",
    "phone_change_token",
    "reauthentication_token",
]
EMAIL_CHANGE: tuple[Kind, Kind] = ("email_change_token_current", "email_change_token_new")


@dataclass(frozen=True, slots=True)
class EmailToken:
    """The secret that one email holds.

    Args:
        token: the token of the link.
        code: digits that stand for the same token; empty where tokens have no codes.
    """

    token: str = field(repr=False)
    code: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CodeKey:
    """Derives tokens from codes of digits, so that either finds the same row.

    The database holds the hash of the token alone: it reveals neither.

    Args:
        secret: 32 bytes that only the server has.
        length: how many digits a code has.
    """

    secret: bytes = field(repr=False)
    length: int

    def new_code(self) -> str:
        """Return a random code."""
        return "".join(secrets.choice("0123456789") for _ in range(self.length))

    def token(self, subject: UUID | str, kind: str, code: str) -> str:
        """Return the token that a code stands for.

        Args:
            subject: the user's id, or the address where there is no user yet; or what else the
                code is for.
            kind: a `Kind`, or the name of another use.
        """
        content = f"{subject} {kind} {code}".encode("utf-8", "surrogatepass")
        return hmac.new(self.secret, content, "sha224").hexdigest()


class OneTimeTokens:
    """Issues and redeems tokens; every method runs in the caller's transaction.

    Args:
        lifetime: how long a token is valid.
        codes: derives the tokens from codes; without it tokens are random.
    """

    def __init__(
        self, tables: Tables, lifetime: timedelta = LIFETIME, codes: CodeKey | None = None
    ) -> None:
        self.lifetime = lifetime
        self._codes = codes
        self._table = tables.one_time_tokens
        self._users = tables.users

    def new(
        self, subject: UUID | str, kind: Kind, *, pkce: bool = False, code: str | None = None
    ) -> EmailToken:
        """Return a new token, which the caller stores.

        Args:
            subject: the user's id, or the address where there is no user yet.
            pkce: whether the link leads to a code to exchange instead of a session.
            code: what stands for the token; None for a random one.
        """
        prefix = PKCE_PREFIX if pkce else ""
        if self._codes is None:
            return EmailToken(prefix + new_token())
        code = code or self._codes.new_code()
        return EmailToken(prefix + self._codes.token(subject, kind, code), code)

    def of_code(self, subject: UUID | str, kind: Kind, code: str) -> tuple[str, ...]:
        """Return the tokens that a code may stand for; none where tokens have no codes."""
        if self._codes is None:
            return ()
        token = self._codes.token(subject, kind, code)
        return token, PKCE_PREFIX + token

    async def issue(
        self,
        connection: SqlConnection,
        user_id: UUID,
        kind: Kind,
        recipient: str,
        *,
        pkce: bool = False,
        code: str | None = None,
    ) -> EmailToken:
        """Issue a token to a user and revoke the earlier one of the same kind.

        Args:
            recipient: the address or number that gets the message; the token is valid while it is
                the user's, or, for a change of either, what the user is changing to.
            pkce: whether the link leads to a code to exchange instead of a session.
            code: what stands for the token; None for a random one.
        """
        await self.revoke(connection, user_id, kind)
        token = self.new(user_id, kind, pkce=pkce, code=code)
        now = utc_now()
        await connection.execute(
            insert(self._table).values(
                id=uuid7(),
                user_id=user_id,
                token_type=kind,
                token_hash=digest(token.token),
                relates_to=recipient,
                created_at=now,
                updated_at=now,
            )
        )
        return token

    async def user_of(self, connection: SqlConnection, token: str, kind: Kind) -> UUID | None:
        """Return the user that a token was issued to, where it could be redeemed now."""
        id: UUID | None = await connection.scalar(
            self._valid(token, kind).with_only_columns(self._table.c.user_id)
        )
        return id

    async def redeem(
        self, connection: SqlConnection, token: str, kind: Kind, *, sent_to: str | None = None
    ) -> UUID | None:
        """Use a token up; return the user it was issued to, or None where it is not valid.

        Args:
            sent_to: the address or number that it has to have been sent to, in lower case.
        """
        # The user's row is locked first, as by `issue`: the other way round, each would wait for
        # what the other holds.
        locked = self._valid(token, kind).with_for_update(of=self._users)
        if sent_to is not None:
            locked = locked.where(func.lower(self._table.c.relates_to) == sent_to)
        id = (await connection.execute(locked)).scalar_one_or_none()
        if id is None:
            return None
        deleted = await connection.execute(
            delete(self._table).where(self._table.c.id == id).returning(self._table.c.user_id)
        )
        user_id: UUID | None = deleted.scalar_one_or_none()
        return user_id

    async def redeem_any(
        self, connection: SqlConnection, token: str, *kinds: Kind
    ) -> tuple[UUID, Kind] | None:
        """Use up a token of one of the kinds; return its user and kind."""
        for kind in kinds:
            if user_id := await self.redeem(connection, token, kind):
                return user_id, kind
        return None

    async def redeem_code(
        self,
        connection: SqlConnection,
        user_id: UUID,
        code: str,
        *kinds: Kind,
        sent_to: str | None = None,
    ) -> Kind | None:
        """Use up a code of one of the kinds; return its kind, or None where it is not valid.

        Args:
            sent_to: the address or number that the code proves, and has to have been sent to.
        """
        for kind in kinds:
            for token in self.of_code(user_id, kind, code):
                if await self.redeem(connection, token, kind, sent_to=sent_to):
                    return kind
        return None

    async def revoke(self, connection: SqlConnection, user_id: UUID, *kinds: Kind) -> None:
        """Revoke the user's tokens of these kinds; all where no kind is named."""
        statement = delete(self._table).where(self._table.c.user_id == user_id)
        if kinds:
            statement = statement.where(self._table.c.token_type.in_(kinds))
        await connection.execute(statement)

    def _valid(self, token: str, kind: Kind) -> Select[Any]:
        # A message to an address or number that is the user's no longer proves nothing.
        table, users = self._table, self._users
        sent_to = func.lower(table.c.relates_to)
        match kind:
            case "email_change_token_new":
                is_current = sent_to == func.lower(users.c.email_change)
            case "phone_change_token":
                is_current = sent_to == users.c.phone_change
            case _:
                is_current = or_(sent_to == func.lower(users.c.email), sent_to == users.c.phone)
        return (
            select(table.c.id)
            .join(users, users.c.id == table.c.user_id)
            .where(
                table.c.token_hash == digest(token),
                table.c.token_type == kind,
                is_current,
                table.c.created_at > utc_now() - self.lifetime,
            )
        )
