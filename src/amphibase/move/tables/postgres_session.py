"""What every connection of a move to a Postgres has in common."""

from collections.abc import Sequence
from typing import LiteralString

from psycopg import AsyncConnection, Connection
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.database.url import to_conninfo
from amphibase.move.catalog import TableName

OUR_SCHEMA = "amphibase_move"
"""Where a move keeps what it needs on a Postgres; gone at the end."""

MOVING: LiteralString = "amphibase.move"
"""The setting that is `on` in the transactions of a move, by which triggers know its rows."""

SETTINGS: LiteralString = f"""
    SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, MDY';
    SET LOCAL intervalstyle = 'postgres'; SET LOCAL bytea_output = 'hex';
    SET LOCAL extra_float_digits = 1; SET LOCAL lc_monetary = 'C';
    SET LOCAL xmlbinary = 'base64'; SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL row_security = off;
    SET LOCAL {MOVING} = 'on'
"""
"""What makes text exact and the same on every server, and lets a transaction take its time; for a
transaction, so that it holds through a pooler too. With `row_security` off, a query of which
policies would hide rows is an error, instead of fewer rows."""


LOCK_SECONDS = 30
"""How long a change of a table that is under way is waited for."""


async def connect(url: URL) -> AsyncConnection:
    """Connect, for transactions that a move begins by itself.

    Raises:
        Unavailable: the server does not respond.
    """
    with translated_errors():
        return await AsyncConnection.connect(
            to_conninfo(url), autocommit=True, prepare_threshold=None, client_encoding="utf8"
        )


async def create_schema(connection: AsyncConnection) -> None:
    """Make the move's schema where it is missing.

    By two statements, as `IF NOT EXISTS` demands the right to make one also where there is one.
    """
    query = "SELECT to_regnamespace(%s) IS NULL"
    row = await (await connection.execute(query, (OUR_SCHEMA,))).fetchone()
    if row == (True,):
        schema = SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(OUR_SCHEMA))
        await connection.execute(schema)


def settings_for(connection: AsyncConnection | Connection) -> LiteralString:
    """Return what a transaction sets first, on a server of this version."""
    if connection.info.server_version >= 170000:
        return SETTINGS + "; SET LOCAL transaction_timeout = 0"
    return SETTINGS


def qualified(table: TableName) -> Identifier:
    """Return a table's name as SQL."""
    return Identifier(*(part for part in table if part is not None))


def relation(table: TableName, *, is_partitioned: bool) -> Composed:
    """Return a table as SQL, without the rows of those that inherit from it.

    Args:
        is_partitioned: whether its rows are in partitions, which `ONLY` would leave out.
    """
    return SQL("{}" if is_partitioned else "ONLY {}").format(qualified(table))


def column_list(columns: Sequence[str]) -> Composed:
    """Return columns' names as SQL."""
    return SQL(", ").join(map(Identifier, columns))
