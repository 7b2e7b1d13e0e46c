"""Several statements in one round trip."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from sqlalchemy import Delete, Insert, Select, Update

from amphibase.database.sql_connection import SqlConnection, StatementResult, Values

Change: TypeAlias = tuple[Insert | Update | Delete, Values]
"""A statement, and the values of its parameters or of the columns that it sets."""


Reading: TypeAlias = tuple[Select[Any], Values]
"""A query, and the values of its parameters."""


@runtime_checkable
class FetchingConnection(Protocol):
    """A connection that can execute several statements in one round trip."""

    async def fetch(self, *statements: Reading) -> Sequence[StatementResult]:
        """Return what each statement returns."""


@runtime_checkable
class QueueingConnection(Protocol):
    """A connection in a transaction that can send statements together."""

    def queue(self, *statements: Change) -> None:
        """Execute statements with the next one, or with the commit where there is none; an error of
        theirs is raised there."""


async def read_together(connection: SqlConnection, *queries: Reading) -> Sequence[StatementResult]:
    """Return the rows of queries, executed in their order, and in one round trip where that can
    be."""
    if isinstance(connection, FetchingConnection):
        return await connection.fetch(*queries)
    return [await connection.execute(statement, values) for statement, values in queries]


async def execute_together(connection: SqlConnection, *changes: Change) -> None:
    """Execute changes of which none depends on what another has done, and none need be refused at
    once.

    A connection of libpq's pipeline sends them with what comes after them. The engine of Postgres
    executes them as one statement, the last with the others as its common table expressions
    (https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING): all see the
    database as it was before, and foreign keys are checked after the last. Other databases execute
    them one by one, in their order.
    """
    if isinstance(connection, QueueingConnection):
        connection.queue(*changes)
        return
    if connection.dialect.name != "postgresql":
        for statement, values in changes:
            await connection.execute(statement, values)
        return
    parts: list[Insert | Update | Delete] = []
    parameters: dict[str, Any] = {}
    for statement, values in changes:
        columns = {name: value for name, value in values.items() if name in statement.table.c}
        parameters |= {name: value for name, value in values.items() if name not in columns}
        parts.append(statement if isinstance(statement, Delete) else statement.values(columns))
    *others, last = parts
    ctes = [part.cte(f"part_{number}") for number, part in enumerate(others, 1)]
    await connection.execute(last.add_cte(*ctes), parameters)
