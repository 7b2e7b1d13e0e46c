"""The rows of second factors and their challenges."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, insert, select, update

from amphibase.column_defaults import utc_now
from amphibase.database.errors import translated_errors
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import Conflict
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.go_json import quoted
from amphibase.schema.tables import Tables

NO_ADDRESS = "0.0.0.0"  # noqa: S104 - a value, nothing listens there

KEPT = timedelta(days=1)
"""How long challenges are stored: at least as long as they can be valid."""


METHODS = {"totp": "totp", "phone": "mfa/phone", "webauthn": "mfa/webauthn"}
"""The methods of the claim `amr`, by the type of the factor."""


class Factors:
    """Reads and writes them, in the caller's transaction."""

    def __init__(self, tables: Tables) -> None:
        self._factors = tables.mfa_factors
        self._challenges = tables.mfa_challenges
        self._sessions = tables.sessions
        self._claims = tables.mfa_amr_claims

    async def get(
        self, connection: SqlConnection, user_id: UUID, id: UUID, *, lock: bool = False
    ) -> Row[Any]:
        """Return a user's factor. Raises AuthError."""
        table = self._factors
        statement = select(table).where(table.c.user_id == user_id, table.c.id == id)
        if lock:
            statement = statement.with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise AuthError(codes.MFA_FACTOR_NOT_FOUND)
        return row

    async def add(
        self,
        connection: SqlConnection,
        user_id: UUID,
        name: str,
        *,
        secret: str | None = None,
        phone: str | None = None,
    ) -> UUID:
        """Add a factor that awaits its first code. Raises AuthError where the name is taken.

        Args:
            secret: of a factor by clock; None for one by text message.
            phone: where its codes are sent.
        """
        id, now = uuid4(), utc_now()
        try:
            with translated_errors():
                await connection.execute(
                    insert(self._factors).values(
                        id=id,
                        user_id=user_id,
                        friendly_name=name,
                        factor_type="totp" if phone is None else "phone",
                        status="unverified",
                        secret=secret,
                        phone=phone,
                        created_at=now,
                        updated_at=now,
                    )
                )
        except Conflict as error:
            raise name_taken(name) from error
        return id

    async def change(self, connection: SqlConnection, id: UUID, **values: Any) -> None:
        """Write columns of a factor. Raises AuthError where its name is taken."""
        try:
            with translated_errors():
                await connection.execute(
                    update(self._factors)
                    .where(self._factors.c.id == id)
                    .values(updated_at=utc_now(), **values)
                )
        except Conflict as error:
            if "friendly_name" not in values:
                raise
            raise name_taken(values["friendly_name"]) from error

    async def remove(self, connection: SqlConnection, factor: Row[Any]) -> None:
        """Delete a factor; sessions that were raised by it are `aal1` again, without its claim."""
        raised = select(self._sessions.c.id).where(self._sessions.c.factor_id == factor.id)
        await connection.execute(
            delete(self._claims).where(
                self._claims.c.session_id.in_(raised),
                self._claims.c.authentication_method == METHODS[factor.factor_type],
            )
        )
        await connection.execute(
            update(self._sessions)
            .where(self._sessions.c.factor_id == factor.id)
            .values(aal="aal1", factor_id=None)
        )
        await connection.execute(delete(self._factors).where(self._factors.c.id == factor.id))

    async def remove_unverified(
        self,
        connection: SqlConnection,
        user_id: UUID,
        factor_type: str | None = None,
        *,
        older_than: timedelta = timedelta(0),
    ) -> None:
        """Delete factors of the user that never were verified.

        Args:
            factor_type: None for those of all types.
        """
        table = self._factors
        statement = delete(table).where(
            table.c.user_id == user_id,
            table.c.status == "unverified",
            table.c.created_at <= utc_now() - older_than,
        )
        if factor_type is not None:
            statement = statement.where(table.c.factor_type == factor_type)
        await connection.execute(statement)

    async def challenge(
        self, connection: SqlConnection, factor_id: UUID, address: str | None
    ) -> Row[Any]:
        """Add a challenge and return it."""
        now = utc_now()
        table = self._challenges
        await connection.execute(
            delete(table).where(table.c.factor_id == factor_id, table.c.created_at < now - KEPT)
        )
        await self.change(connection, factor_id, last_challenged_at=now)
        added = await connection.execute(
            insert(table)
            .values(
                id=uuid4(),
                factor_id=factor_id,
                created_at=now,
                ip_address=address or NO_ADDRESS,
            )
            .returning(table)
        )
        challenge: Row[Any] = added.one()
        return challenge

    async def set_code(self, connection: SqlConnection, challenge_id: UUID, code: str) -> None:
        """Store the hash of the code that was sent for a challenge."""
        table = self._challenges
        await connection.execute(
            update(table).where(table.c.id == challenge_id).values(otp_code=code)
        )

    async def find_challenge(
        self, connection: SqlConnection, factor_id: UUID, id: UUID
    ) -> Row[Any] | None:
        """Return a challenge of the factor."""
        table = self._challenges
        rows = await connection.execute(
            select(table).where(table.c.id == id, table.c.factor_id == factor_id)
        )
        return rows.one_or_none()

    async def use_challenge(self, connection: SqlConnection, id: UUID) -> None:
        """Record that a challenge was met, so that no other code meets it."""
        table = self._challenges
        await connection.execute(
            update(table).where(table.c.id == id).values(verified_at=utc_now(), otp_code=None)
        )

    async def end_weaker_sessions(
        self, connection: SqlConnection, user_id: UUID, keep: UUID
    ) -> None:
        """End the user's sessions that no second factor was shown in, but for one."""
        table = self._sessions
        await connection.execute(
            delete(table).where(
                table.c.user_id == user_id, table.c.id != keep, table.c.aal.is_distinct_from("aal2")
            )
        )


def name_taken(name: str) -> AuthError:
    """Return the error for a name that another factor of the user has."""
    return AuthError(
        codes.MFA_FACTOR_NAME_CONFLICT,
        f"A factor with the friendly name {quoted(name)} for this user already exists",
    )
