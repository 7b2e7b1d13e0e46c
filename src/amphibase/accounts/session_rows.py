"""The rows of sessions: where a user is signed in, and the end of it."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Table, delete, select

from amphibase.backend import UserSession
from amphibase.database.sql_connection import SqlConnection


async def sessions_of(
    connection: SqlConnection, table: Table, user_id: UUID
) -> Sequence[UserSession]:
    """Return where a user is signed in, newest first."""
    rows = await connection.execute(
        select(table.c.id, table.c.user_agent, table.c.ip, table.c.created_at, table.c.refreshed_at)
        .where(table.c.user_id == user_id)
        .order_by(table.c.created_at.desc(), table.c.id.desc())
    )
    return [
        UserSession(
            id=row.id,
            user_agent=row.user_agent,
            ip=str(row.ip) if row.ip else None,
            created_at=row.created_at,
            refreshed_at=row.refreshed_at or row.created_at,
        )
        for row in rows
    ]


async def end_sessions(
    connection: SqlConnection,
    table: Table,
    user_id: UUID,
    session_id: UUID | None = None,
    *,
    keep: UUID | None = None,
) -> bool:
    """End one session of a user, or all, or all but one; return whether any was ended."""
    statement = delete(table).where(table.c.user_id == user_id)
    if session_id is not None:
        statement = statement.where(table.c.id == session_id)
    if keep is not None:
        statement = statement.where(table.c.id != keep)
    return (await connection.execute(statement)).rowcount > 0
