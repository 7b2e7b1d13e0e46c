"""Flows that end with a code (PKCE, RFC 7636): who begins one keeps a verifier, and only with it
can the code of the letter's link be exchanged for a session."""

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.accounts.sessions import digest
from amphibase.gateway.auth.bodies import Pkce
from amphibase.gateway.auth.errors import AuthError
from amphibase.models import utc_now, uuid7
from amphibase.schema.tables import Tables

CODE_LIFETIME = timedelta(minutes=5)
KEPT = timedelta(days=8)
"""Longer than any link is good for."""


class Flows:
    """The flows; every method runs in the transaction it is handed."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.flow_state

    async def begin(
        self, connection: AsyncConnection, user_id: UUID, method: str, pkce: Pkce
    ) -> None:
        """Keep the challenge until the user follows their letter's link.

        Args:
            method: what the flow is for, which the link has to be for too.
        """
        now = utc_now()
        await connection.execute(delete(self._table).where(self._table.c.created_at < now - KEPT))
        await connection.execute(
            insert(self._table).values(
                id=uuid7(),
                user_id=user_id,
                code_challenge_method=pkce.code_challenge_method.lower(),
                code_challenge=pkce.code_challenge,
                provider_type="email",
                authentication_method=method,
                created_at=now,
                updated_at=now,
            )
        )

    async def hand_out_code(self, connection: AsyncConnection, user_id: UUID, method: str) -> str:
        """A code for the newest flow of the user; only its hash is kept. Raises AuthError."""
        table, now = self._table, utc_now()
        newest = (
            select(table.c.id)
            .where(table.c.user_id == user_id, table.c.authentication_method == method)
            .order_by(table.c.created_at.desc(), table.c.id.desc())
            .limit(1)
        )
        code = str(uuid4())
        given = await connection.execute(
            update(table)
            .where(table.c.id == newest.scalar_subquery())
            .values(auth_code=digest(code), auth_code_issued_at=now, updated_at=now)
        )
        if given.rowcount == 0:
            raise _unknown()
        return code

    async def redeem(self, connection: AsyncConnection, code: str, verifier: str) -> Row[Any]:
        """The flow that a code is of, and no second time. Raises AuthError."""
        table = self._table
        flow = (
            await connection.execute(
                select(table).where(table.c.auth_code == digest(code)).with_for_update()
            )
        ).one_or_none()
        if flow is None or flow.auth_code_issued_at is None:
            raise _unknown()
        if flow.auth_code_issued_at < utc_now() - CODE_LIFETIME:
            raise AuthError(422, "flow_state_expired", "invalid flow state, flow state has expired")
        if not _fits(flow, verifier):
            raise AuthError(
                400,
                "bad_code_verifier",
                "code challenge does not match previously saved code verifier",
            )
        await connection.execute(delete(table).where(table.c.id == flow.id))
        return flow


def _fits(flow: Row[Any], verifier: str) -> bool:
    given = verifier.encode("utf-8", "surrogatepass")
    if flow.code_challenge_method == "s256":
        given = base64.urlsafe_b64encode(hashlib.sha256(given).digest()).rstrip(b"=")
    return hmac.compare_digest(given, flow.code_challenge.encode())


def _unknown() -> AuthError:
    return AuthError(404, "flow_state_not_found", "invalid flow state, no valid flow state found")
