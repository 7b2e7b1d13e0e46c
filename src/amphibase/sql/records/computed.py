"""Values of computed columns (`column_property`) of rows that were just written."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.records.model_info import ABSENT
from amphibase.records.values import Row
from amphibase.sql.records.query_builder import QueryBuilder

KEYS_PER_QUERY = 1000


async def computed_values(
    connection: AsyncConnection, builder: QueryBuilder, keys: Sequence[tuple[Any, ...]]
) -> Sequence[Row]:
    """Read the computed columns of rows, as the caller may see them.

    Args:
        connection: the one that wrote the rows.
        builder: of the rows' model.
        keys: the primary keys of the rows.

    Returns:
        For each key the values in the order of `computed_names`; None for what is not visible.
    """
    info = builder.info
    invisible: Row = (None,) * len(info.computed)
    values: dict[tuple[Any, ...], Row] = {}
    keys_known = [key for key in keys if not any(value is ABSENT for value in key)]
    if info.computed and builder.policy.may_select:
        statement = select(*info.keys, *info.computed)
        for start in range(0, len(keys_known), KEYS_PER_QUERY):
            chosen = info.has_key_in(keys_known[start : start + KEYS_PER_QUERY])
            rows = await connection.execute(builder.visible(statement, chosen))
            values |= {tuple(row[: len(info.keys)]): tuple(row[len(info.keys) :]) for row in rows}
    return [values.get(key, invisible) for key in keys]
