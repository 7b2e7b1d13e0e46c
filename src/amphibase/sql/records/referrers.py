"""The rows that still refer to rows that could not be deleted."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ForeignKey, Select, literal_column, select

from amphibase.backend import Where
from amphibase.errors import ForeignKeyViolation
from amphibase.records.adoption import mappers_by_table
from amphibase.sql.records.limit import limited
from amphibase.sql.records.query_builder import QueryBuilder, enclosed


async def still_referred_to(builder: QueryBuilder, where: Sequence[Where]) -> ForeignKeyViolation:
    """Build the error of rows that are still referred to.

    Args:
        builder: of the model whose rows could not be deleted.
        where: which rows these are.

    Returns:
        An error that names the tables in which the caller sees a row that refers to one of them.
        What the caller does not see is not named.
    """
    tables = [
        table.name
        for table, mappers in mappers_by_table().items()
        for reference in table.foreign_keys
        if reference.references(builder.info.table)
        and await _refers(
            builder.of(builder.infos.of(mappers[0].class_, builder.caller)), reference, where
        )
    ]
    model = builder.info.model.__name__
    by = ", ".join(sorted({*tables})) or "rows that you may not see"
    return ForeignKeyViolation(f"This {model} is still referred to by {by}")


async def _refers(builder: QueryBuilder, reference: ForeignKey, where: Sequence[Where]) -> bool:
    referred = select(reference.column).where(*enclosed(where))
    statement: Select[Any] = select(literal_column("1")).select_from(builder.info.table)
    # An adopted model reads its own table, not the copy that has the reference.
    parent = builder.info.table.c[reference.parent.name]
    statement = builder.visible(statement, parent.in_(referred))
    return bool(await builder.rows(builder.selects.query(limited(statement, 1))))
