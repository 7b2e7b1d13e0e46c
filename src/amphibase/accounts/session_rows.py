"""The rows of sessions: where a user is signed in, and the end of it."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Table, bindparam, delete, func, insert, select, update

from amphibase.backend import UserSession
from amphibase.database.sql_connection import SqlConnection
from amphibase.schema.tables import Tables


class SessionStatements:
    """The statements of sessions and their tokens that each sign-in and each refresh executes,
    built once.

    Attributes:
        insert_session, insert_token, insert_method: of a row.
        change_session, change_token: of one row.
        delete_old_tokens: of a session, made before a time.
        its_methods: how the user of a session has proved who they are.
        of_user: a session, if it is a user's.
        delete_expired: sessions of a user that were last refreshed before a time.
    """

    def __init__(self, tables: Tables) -> None:
        sessions, tokens = tables.sessions, tables.refresh_tokens
        claims = tables.mfa_amr_claims
        self.insert_session = insert(sessions)
        self.insert_token = insert(tokens)
        self.insert_method = insert(claims)
        self.change_token = update(tokens).where(tokens.c.id == bindparam("its_id"))
        self.change_session = update(sessions).where(sessions.c.id == bindparam("its_session"))
        self.delete_old_tokens = delete(tokens).where(
            tokens.c.session_id == bindparam("its_session"),
            tokens.c.created_at < bindparam("oldest"),
        )
        self.its_methods = (
            select(claims.c.authentication_method, claims.c.created_at)
            .where(claims.c.session_id == bindparam("its_session"))
            .order_by(claims.c.created_at.desc())
        )
        self.of_user = select(sessions).where(
            sessions.c.id == bindparam("its_id"),
            sessions.c.user_id == bindparam("its_user"),
        )
        self.delete_expired = delete(sessions).where(
            sessions.c.user_id == bindparam("its_user"),
            # NULL until the first refresh, as in Supabase Auth.
            func.coalesce(sessions.c.refreshed_at, sessions.c.created_at) < bindparam("oldest"),
        )


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
