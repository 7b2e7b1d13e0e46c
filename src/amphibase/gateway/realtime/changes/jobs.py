"""Statements that run as the roles of subscribers, many in one round trip."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection

from amphibase.database.engine import Database
from amphibase.database.impersonation import Impersonation
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.realtime")

_SETTINGS = {
    # Values are written as the stream writes them.
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
STATEMENT_MILLISECONDS = 5000
Rows = Sequence[tuple[Any, ...]]


class RoleStatement(NamedTuple):
    """A statement as a role, with claims.

    Attributes:
        claims: JSON for `request.jwt.claims`.
        sql: with the driver's placeholders.
    """

    role: str
    claims: str
    sql: str
    parameters: Sequence[Any]


@asynccontextmanager
async def driver_connection(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    """Take a connection of the pool, as the driver has it."""
    async with database.read() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, AsyncConnection)
        yield driver


async def run_all(
    connection: AsyncConnection[Any],
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
        return [*await run(connection, statements, milliseconds)]
    except psycopg.OperationalError:
        if connection.closed:
            raise
    except psycopg.Error:
        pass
    rows: list[Rows | None] = []
    for statement in statements:
        try:
            rows += await run(connection, [statement], milliseconds)
        except psycopg.errors.QueryCanceled:
            logger.warning("A statement of the role %s takes too long", statement.role)
            rows.append(None)
        except psycopg.Error as error:
            if connection.closed:
                raise
            logger.warning("A statement of the role %s fails: %s", statement.role, error)
            rows.append(())
    return rows


async def run(
    connection: AsyncConnection[Any],
    statements: Sequence[RoleStatement],
    milliseconds: int = STATEMENT_MILLISECONDS,
) -> list[Rows]:
    """Run the statements in pipeline mode; those of a role that is not allowed have no rows.

    The transaction of the connection, if it is in one, is undone with what the statements did.

    Args:
        milliseconds: how long each may take; half of it may be spent waiting for a lock.

    Raises:
        psycopg.Error: one of them failed.
    """
    timeouts = {"lock_timeout": milliseconds // 2, "statement_timeout": milliseconds}
    settings = {**_SETTINGS, **{name: str(value) for name, value in timeouts.items()}}
    impersonated = (len(settings) + 2,)  # with the role and the claims
    try:
        async with connection.pipeline():
            if connection.autocommit:
                await connection.execute(b"BEGIN")
            cursors = []
            for role, claims, sql, parameters in statements:
                impersonation = Impersonation(role, claims, settings)
                counted = await connection.execute(*impersonation.driver_call())
                cursors.append((counted, await connection.execute(sql.encode(), parameters)))
            # Before anything is fetched, so that all is one round trip.
            await connection.execute(b"ROLLBACK")
            return [
                await cursor.fetchall() if await counted.fetchone() == impersonated else ()
                for counted, cursor in cursors
            ]
    except psycopg.Error:
        if not connection.closed:
            await connection.rollback()
        raise
