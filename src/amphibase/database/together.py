"""Several changes in one round trip."""

from sqlalchemy import Delete, Insert, Update

from amphibase.database.sql_connection import SqlConnection

Change = Insert | Update | Delete


async def execute_together(connection: SqlConnection, *changes: Change) -> None:
    """Execute changes of which none depends on what another has done.

    On Postgres they are one statement, the last with the others as its common table expressions
    (https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING): all see the
    database as it was before, and foreign keys are checked after the last. Other databases execute
    them one by one, in their order.
    """
    *others, last = changes
    if connection.dialect.name == "postgresql":
        parts = [change.cte(f"part_{number}") for number, change in enumerate(others, 1)]
        await connection.execute(last.add_cte(*parts))
        return
    for change in changes:
        await connection.execute(change)
