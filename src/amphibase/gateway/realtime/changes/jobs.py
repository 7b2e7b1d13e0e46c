"""Statements that run as the roles of subscribers, many in one round trip."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from amphibase.database.impersonation import Impersonation
from amphibase.database.statement import Call, Statement
from amphibase.gateway.realtime.changes.session import QuestionSession, Rows
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.realtime")

STATEMENT_MILLISECONDS = 5000


class RoleStatement(NamedTuple):
    """A statement as a role, with claims.

    Attributes:
        claims: JSON for `request.jwt.claims`.
    """

    role: str
    claims: str
    sql: str
    parameters: Sequence[Any]


def timeouts(milliseconds: int) -> Mapping[str, str]:
    """Return the settings that limit a statement; half of the time may be spent waiting for a
    lock."""
    return {"lock_timeout": str(milliseconds // 2), "statement_timeout": str(milliseconds)}


async def run_all(
    session: QuestionSession,
    statements: Sequence[RoleStatement],
    milliseconds: int = STATEMENT_MILLISECONDS,
) -> list[Rows | None]:
    """Run the statements; one that fails has no rows, and no other fails with it.

    Args:
        milliseconds: how long each may take.

    Returns:
        Of each its rows; None where it took longer.
    """
    if not statements:
        return []
    try:
        return [*await run(session, statements, milliseconds)]
    except psycopg.Error:
        if not session.is_open:
            raise
    rows: list[Rows | None] = []
    for statement in statements:
        try:
            rows += await run(session, [statement], milliseconds)
        except psycopg.errors.QueryCanceled:
            logger.warning("A statement of the role %s takes too long", statement.role)
            rows.append(None)
        except psycopg.Error as error:
            if not session.is_open:
                raise
            logger.warning("A statement of the role %s fails: %s", statement.role, error)
            rows.append(())
    return rows


async def run(
    session: QuestionSession,
    statements: Sequence[RoleStatement],
    milliseconds: int = STATEMENT_MILLISECONDS,
) -> list[Rows]:
    """Run the statements in one transaction, which writes nothing; those of a role that is not
    allowed have no rows.

    Args:
        milliseconds: how long each may take; half of it may be spent waiting for a lock.

    Raises:
        psycopg.Error: one of them failed.
    """
    settings = timeouts(milliseconds)
    calls = []
    for role, claims, sql, parameters in statements:
        impersonation = Impersonation(role, claims, settings)
        calls.append(impersonation.call(read_only=True, of_authenticator=True))
        calls.append(Call(Statement(sql), parameters))
    rows = await session.run(*calls)
    return [
        found if impersonation.is_allowed(counted, read_only=True) else ()
        for counted, found in zip(rows[::2], rows[1::2], strict=True)
    ]
