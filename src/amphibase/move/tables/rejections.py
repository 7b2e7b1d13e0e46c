"""Finds the rows that a database rejects among many that were sent together."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from amphibase.move.tables.base import Rejected, Row


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why rows that were sent together are rejected; see `Rejected`."""

    reason: str
    is_conflict: bool = False


async def write_by_halves(
    rows: Sequence[Row], write: Callable[[Sequence[Row]], Awaitable[Rejection | None]]
) -> list[Rejected]:
    """Write rows; where they are rejected together, write each half, down to single rows.

    Args:
        write: writes all of its rows or none; returns why they are rejected.

    Returns:
        The rows that are rejected by themselves; the others are written.
    """
    if not rows:
        return []
    rejection = await write(rows)
    if rejection is None:
        return []
    if len(rows) == 1:
        return [Rejected(rows[0], rejection.reason, rejection.is_conflict)]
    middle = len(rows) // 2
    first = await write_by_halves(rows[:middle], write)
    return first + await write_by_halves(rows[middle:], write)


def invalid_text(columns: Sequence[str], row: Row) -> str | None:
    """Return which column of a row holds what a Postgres takes for no text; None where none does.

    SQLite stores any bytes as text; those that are not UTF-8 are read as lone surrogates.
    """
    for name, value in zip(columns, row, strict=True):
        if value is None:
            continue
        if "\0" in value:
            return f"{name} holds a NUL character, which Postgres does not store in a text"
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"{name} is not valid UTF-8 at character {error.start + 1}"
    return None
