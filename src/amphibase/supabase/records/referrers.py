"""The rows that still refer to rows that could not be deleted."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ForeignKey

from amphibase.backend import MAX_LIMIT, Where
from amphibase.errors import ForeignKeyViolation
from amphibase.records.adoption import mappers_by_table
from amphibase.records.values import Row
from amphibase.supabase.records.counting import rows_exist
from amphibase.supabase.records.paged_read import read_rows
from amphibase.supabase.records.request_builder import RequestBuilder


async def still_referred_to(builder: RequestBuilder, where: Sequence[Where]) -> ForeignKeyViolation:
    """Build the error of rows that are still referred to.

    Args:
        builder: of the model whose rows could not be deleted.
        where: which rows these are.

    Returns:
        An error that names the tables in which the caller sees a row that refers to one of them.
        What the caller does not see is not named.
    """
    infos = builder.shared.infos
    rows = await read_rows(builder, where, builder.ordering(()), limit=MAX_LIMIT)
    tables = [
        table.name
        for table, mappers in mappers_by_table().items()
        for reference in table.foreign_keys
        if reference.references(builder.info.table)
        and await _refers(
            builder.of(infos.of(mappers[0].class_, builder.caller)), reference, builder, rows
        )
    ]
    model = builder.info.model.__name__
    by = ", ".join(sorted({*tables})) or "rows that you may not see"
    return ForeignKeyViolation(f"This {model} is still referred to by {by}")


async def _refers(
    referring: RequestBuilder, reference: ForeignKey, builder: RequestBuilder, rows: Sequence[Row]
) -> bool:
    place = builder.info.columns.index(reference.column)
    values: list[Any] = [row[place] for row in rows]
    # An adopted model reads its own table, not the copy that has the reference.
    parent = referring.info.table.c[reference.parent.name]
    return await rows_exist(referring, [parent.in_(values)])
