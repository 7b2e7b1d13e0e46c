"""The connection by which one lane of changes asks the database."""

from typing import Any

import psycopg
from psycopg import AsyncConnection

from amphibase.database.connecting import connect
from amphibase.database.engine import Database
from amphibase.database.url import to_conninfo
from amphibase.errors import Unavailable
from amphibase.gateway.realtime.changes.arrays import register

CONNECT_SECONDS = 10

# A statement whose arguments are arrays would be planned anew for each of them, and would read a
# small table whole, and with it evaluate the policies for each row, where it wants a few by their
# keys: 130 µs for a caller and a table of 2,000 rows, and 20 µs by the keys.
_PLANS = b"""
SELECT set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('jit', 'off', false), set_config('enable_seqscan', 'off', false)
"""


class QuestionSession:
    """One connection that stays open, and with it the plans of what it asks again and again.

    Args:
        database: where it connects to.
    """

    def __init__(self, database: Database) -> None:
        self._conninfo = to_conninfo(database.url)
        self._connection: AsyncConnection[Any] | None = None

    async def connection(self) -> AsyncConnection[Any]:
        """Return the connection, which is opened anew where it has ended.

        Raises:
            Unavailable: the database cannot be reached.
        """
        if self._connection is None or self._connection.closed:
            try:
                self._connection = await connect(
                    self._conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS
                )
                register(self._connection)
                await self._connection.execute(_PLANS)
            except psycopg.Error as error:
                # Not psycopg's own exception: its connection has the password.
                raise Unavailable(f"The database cannot be reached: {error}") from None
        return self._connection

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
