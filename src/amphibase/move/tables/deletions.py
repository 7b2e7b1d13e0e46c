"""Deletes rows, but those that others refer to."""

from collections.abc import Sequence

from amphibase.errors import ForeignKeyViolation
from amphibase.move.tables.base import Key, Referrer, Selection, TableWriter


async def delete_by_halves(
    target: TableWriter,
    selection: Selection,
    keys: Sequence[Key],
    referrers: Sequence[Referrer] = (),
) -> int:
    """Delete rows; where a foreign key rejects that, each half, down to single rows.

    Args:
        referrers: whose rows keep a row too, although the foreign key would delete them with it.

    Returns:
        How many were deleted.
    """
    if not keys:
        return 0
    try:
        return await target.delete(selection, keys, referrers)
    except ForeignKeyViolation:
        if len(keys) == 1:
            return 0
    middle = len(keys) // 2
    first = await delete_by_halves(target, selection, keys[:middle], referrers)
    return first + await delete_by_halves(target, selection, keys[middle:], referrers)
