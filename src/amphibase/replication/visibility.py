"""When what a transaction did can be seen by others, which is after the stream has it."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import AsyncConnection

VISIBLE_SECONDS = 0.0005
MAX_VISIBLE_SECONDS = 0.05

# A transaction's number has 32 bits in the stream, and 64 in a snapshot.
_ARE_VISIBLE = """
WITH snapshot AS (
    SELECT value, pg_snapshot_xmax(value)::text::bigint AS top
    FROM pg_current_snapshot() AS value
), transactions AS (
    SELECT value, CASE
        WHEN near > top + (1::bigint << 31) THEN near - (1::bigint << 32) ELSE near
    END AS number
    FROM snapshot, unnest(%s::bigint[]) AS xid, LATERAL (SELECT (top >> 32 << 32) + xid) AS n (near)
)
SELECT bool_and(pg_visible_in_snapshot(number::text::xid8, value)) FROM transactions
"""


async def wait_until_visible(
    connection: AsyncConnection[Any],
    xids: Iterable[int],
    following: tuple[bytes, Sequence[Any]] | None = None,
) -> list[tuple[Any, ...]]:
    """Wait until later snapshots see what the transactions did.

    The stream has a commit as soon as it is on disk, and only then its own backend makes it visible
    to others. A question in between would be responded to by the state before.

    Args:
        connection: outside a transaction.
        following: a statement and its parameters that see it, in the same round trip.

    Returns:
        The rows of that statement.
    """
    numbers, seconds = [*set(xids)], VISIBLE_SECONDS
    while True:
        async with connection.pipeline():
            visible = await connection.execute(_ARE_VISIBLE.encode(), [numbers])
            rows = await connection.execute(*following) if following else None
            if await visible.fetchone() == (True,):
                return await rows.fetchall() if rows else []
        await asyncio.sleep(seconds)
        seconds = min(2 * seconds, MAX_VISIBLE_SECONDS)
