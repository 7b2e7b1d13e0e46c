"""Flows that end with a code (PKCE, RFC 7636).

The client that begins one keeps a verifier, and only with it can the code of an email's link, or of
a sign-in at a third party, be exchanged for a session.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, insert, select

from amphibase.accounts.sessions import digest
from amphibase.column_defaults import utc_now, uuid7
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import InvalidLink
from amphibase.schema.tables import Tables

CODE_LIFETIME = timedelta(minutes=5)
STATE_LIFETIME = timedelta(minutes=10)
"""How long the sign-in at a third party may take."""

KEPT = timedelta(days=8)
"""Longer than any link is good for."""


EXTERNAL = "oauth"
"""What a flow with a third party is called, and the method of its session."""


class FlowNotFound(InvalidLink):
    """Raised for a state or a code that is unknown or has been used."""


class FlowExpired(InvalidLink):
    """Raised for a state or a code that came too late."""


class WrongVerifier(InvalidLink):
    """Raised for a verifier that does not fit the challenge of its flow; the flow goes on."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the verifier has to fit.

    Args:
        method: `s256` or `plain`.
    """

    code_challenge: str
    method: str


class PkceFlows:
    """Stores the flows; every method runs in the caller's transaction."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.flow_state

    async def begin(
        self, connection: SqlConnection, user_id: UUID, method: str, challenge: Challenge
    ) -> None:
        """Store the challenge until the user follows the link of their email.

        Args:
            method: what the flow is for, which the link has to be for too.
        """
        now = utc_now()
        await self._delete_expired(connection, now)
        await connection.execute(
            insert(self._table).values(
                id=uuid7(),
                user_id=user_id,
                code_challenge_method=challenge.method,
                code_challenge=challenge.code_challenge,
                provider_type="email",
                authentication_method=method,
                created_at=now,
                updated_at=now,
            )
        )

    async def discard(self, connection: SqlConnection, user_id: UUID) -> None:
        """Delete the flows of a user."""
        await connection.execute(delete(self._table).where(self._table.c.user_id == user_id))

    async def _delete_expired(self, connection: SqlConnection, now: datetime) -> None:
        """Delete the flows that nobody can end any more: those with third parties hold tokens."""
        table = self._table
        is_external = table.c.authentication_method == EXTERNAL
        await connection.execute(
            delete(table).where(
                (table.c.created_at < now - KEPT)
                | (is_external & (table.c.created_at < now - STATE_LIFETIME))
            )
        )

    async def challenge(self, connection: SqlConnection, user_id: UUID, method: str) -> Challenge:
        """Return the challenge of the user's newest flow. Raises FlowNotFound."""
        table = self._table
        rows = await connection.execute(
            select(table)
            .where(table.c.user_id == user_id, table.c.authentication_method == method)
            .order_by(table.c.created_at.desc(), table.c.id.desc())
            .limit(1)
        )
        flow = rows.one_or_none()
        if flow is None:
            raise FlowNotFound
        return Challenge(flow.code_challenge, flow.code_challenge_method)

    async def begin_external(
        self,
        connection: SqlConnection,
        provider: str,
        challenge: Challenge | None,
        redirect_to: str,
        linking_user_id: UUID | None,
        **columns: Any,
    ) -> str:
        """Return the state of a sign-in at a third party; only its hash is stored.

        Args:
            challenge: of the client; None where the session goes into the fragment.
            redirect_to: where the browser is sent at its end.
            linking_user_id: the user whom the account there is linked to; None signs in.
            columns: further columns of the flow.
        """
        state, now = str(uuid4()), utc_now()
        await self._delete_expired(connection, now)
        await connection.execute(
            insert(self._table).values(
                id=uuid7(),
                user_id=linking_user_id,  # whose new password ends the flow too
                auth_code=digest(state),
                code_challenge_method=challenge.method if challenge else None,
                code_challenge=challenge.code_challenge if challenge else None,
                provider_type=provider,
                authentication_method=EXTERNAL,
                referrer=redirect_to,
                linking_target_id=linking_user_id,
                created_at=now,
                updated_at=now,
                **columns,
            )
        )
        return state

    async def has_external(self, connection: SqlConnection, provider: str, state: str) -> bool:
        """Return whether a sign-in at a third party has begun with that state, and can go on."""
        table = self._table
        rows = await connection.execute(
            select(table.c.id).where(
                table.c.auth_code == digest(state),
                table.c.auth_code_issued_at.is_(None),
                table.c.provider_type == provider,
                table.c.created_at >= utc_now() - STATE_LIFETIME,
            )
        )
        return rows.one_or_none() is not None

    async def end_external(self, connection: SqlConnection, state: str) -> Row[Any]:
        """Use a state up and return its flow. Raises FlowNotFound, FlowExpired."""
        table = self._table
        flow: Row[Any] | None = (
            await connection.execute(
                delete(table)
                .where(table.c.auth_code == digest(state), table.c.auth_code_issued_at.is_(None))
                .returning(table)
            )
        ).one_or_none()
        if flow is None:
            raise FlowNotFound
        if flow.created_at < utc_now() - STATE_LIFETIME:
            raise FlowExpired
        return flow

    async def issue_code(
        self,
        connection: SqlConnection,
        user_id: UUID | None,
        method: str,
        challenge: Challenge,
        *,
        provider: str = "email",
        **values: Any,
    ) -> str:
        """Return a new code that ends a flow; only its hash is stored.

        Args:
            user_id: whom the code signs in; None where a third party's identity decides.
            values: further columns of the flow.
        """
        code, now = str(uuid4()), utc_now()
        await connection.execute(
            insert(self._table).values(
                id=uuid7(),
                user_id=user_id,
                auth_code=digest(code),
                code_challenge_method=challenge.method,
                code_challenge=challenge.code_challenge,
                provider_type=provider,
                authentication_method=method,
                created_at=now,
                updated_at=now,
                auth_code_issued_at=now,
                **values,
            )
        )
        return code

    async def redeem(self, connection: SqlConnection, code: str, verifier: str) -> Row[Any]:
        """Use a code up and return its flow. Raises FlowNotFound, FlowExpired, WrongVerifier."""
        flow = await self.find(connection, code, verifier, lock=True)
        await connection.execute(delete(self._table).where(self._table.c.id == flow.id))
        return flow

    async def find(
        self, connection: SqlConnection, code: str, verifier: str, *, lock: bool = False
    ) -> Row[Any]:
        """Return the flow of a code, which stays good; see `redeem`.

        Args:
            lock: let nobody else use the code until the transaction ends.
        """
        statement = select(self._table).where(self._table.c.auth_code == digest(code))
        if lock:
            statement = statement.with_for_update()
        flow = (await connection.execute(statement)).one_or_none()
        if flow is None or flow.auth_code_issued_at is None:
            raise FlowNotFound
        if flow.auth_code_issued_at < utc_now() - CODE_LIFETIME:
            raise FlowExpired
        if not _fits(flow, verifier):
            raise WrongVerifier
        return flow


def _fits(flow: Row[Any], verifier: str) -> bool:
    fitting = verifier.encode("utf-8", "surrogatepass")
    if flow.code_challenge_method == "s256":
        fitting = base64.urlsafe_b64encode(hashlib.sha256(fitting).digest()).rstrip(b"=")
    return hmac.compare_digest(fitting, flow.code_challenge.encode())
