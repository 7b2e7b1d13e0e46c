"""Statements that run as the roles of subscribers, many in one round trip."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection

from amphibase.database.engine import Database
from amphibase.database.impersonation import Impersonation
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.realtime")

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        # Values are written as the stream writes them.
        "TimeZone": "UTC",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "statement_timeout": "5000",
    }
)

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
    connection: AsyncConnection[Any], statements: Sequence[RoleStatement]
) -> list[Rows]:
    """Run the statements; one that fails has no rows, and no other fails with it."""
    if not statements:
        return []
    try:
        return await run(connection, statements)
    except psycopg.OperationalError:
        if connection.closed:
            raise
    except psycopg.Error:
        pass
    rows: list[Rows] = []
    for statement in statements:
        try:
            rows += await run(connection, [statement])
        except psycopg.Error as error:
            if connection.closed:
                raise
            logger.warning("A subscriber of the role %s gets nothing: %s", statement.role, error)
            rows.append(())
    return rows


async def run(connection: AsyncConnection[Any], statements: Sequence[RoleStatement]) -> list[Rows]:
    """Run the statements in pipeline mode; those of a role that is not allowed have no rows.

    Raises:
        psycopg.Error: one of them failed.
    """
    cursors = []
    async with connection.transaction(force_rollback=True), connection.pipeline():
        for role, claims, sql, parameters in statements:
            impersonation = Impersonation(role, claims, SETTINGS)
            counted = await connection.execute(*impersonation.driver_call())
            cursors.append((counted, await connection.execute(sql.encode(), parameters)))
        return [
            await cursor.fetchall() if await counted.fetchone() == (len(SETTINGS) + 2,) else ()
            for counted, cursor in cursors
        ]
