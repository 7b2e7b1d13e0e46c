"""When what a transaction did can be seen by others, which is after the stream has it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from amphibase.database.statement import Call, Statement

VISIBLE_SECONDS = 0.0005
MAX_VISIBLE_SECONDS = 0.05

# A transaction's number has 32 bits in the stream, and 64 in a snapshot.
_ARE_VISIBLE = Statement("""
WITH snapshot AS (
    SELECT value, pg_snapshot_xmax(value)::text::bigint AS top
    FROM pg_current_snapshot() AS value
), transactions AS (
    SELECT value, CASE
        WHEN near > top + (1::bigint << 31) THEN near - (1::bigint << 32) ELSE near
    END AS number
    FROM snapshot, unnest($1::bigint[]) AS xid, LATERAL (SELECT (top >> 32 << 32) + xid) AS n (near)
)
SELECT bool_and(pg_visible_in_snapshot(number::text::xid8, value)) FROM transactions
""")

Rows = Sequence[tuple[Any, ...]]


def visibility_call(xids: Iterable[int]) -> Call:
    """Return the call that asks whether later snapshots see what the transactions did."""
    return Call(_ARE_VISIBLE, [array_of({*xids})])


def array_of(numbers: Iterable[int]) -> str:
    """Write numbers as an array, in a quarter of the time that the driver takes for a list."""
    return f"{{{','.join(map(str, numbers))}}}"


def are_visible(rows: Rows) -> bool:
    """Return whether they do, by the rows of the call."""
    return [*rows] == [(True,)]


async def wait_until_visible(
    run: Callable[..., Awaitable[list[Rows]]], xids: Iterable[int], *following: Call
) -> list[Rows]:
    """Wait until later snapshots see what the transactions did.

    The stream has a commit as soon as it is on disk, and only then its own backend makes it visible
    to others. A question in between would be responded to by the state before.

    Args:
        run: runs calls in one round trip, and returns the rows of each.
        following: calls that see it, in the same round trip.

    Returns:
        The rows of each of these.
    """
    call, seconds = visibility_call(xids), VISIBLE_SECONDS
    while True:
        visible, *rows = await run(call, *following)
        if are_visible(visible):
            return rows
        await asyncio.sleep(seconds)
        seconds = min(2 * seconds, MAX_VISIBLE_SECONDS)
