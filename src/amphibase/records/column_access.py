"""Who reads and writes a column: what its `info` declares beside the model's own access.

token: Mapped[str] = mapped_column(info={"read": service})
plan: Mapped[str] = mapped_column(server_default="free", info={"write": service})
team_id: Mapped[UUID] = mapped_column(ForeignKey("teams.id"), info={"change": service})
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

from amphibase.access import service
from amphibase.errors import NotSupported

OPERATIONS = ("read", "write", "add", "change")


@dataclass(frozen=True, slots=True)
class ColumnAccess:
    """What is left to the service of a column.

    Args:
        read: callers do not see its values, nor filter or order by them.
        add: callers do not set it in a new row.
        change: callers do not change it.
    """

    read: bool
    add: bool
    change: bool


OPEN = ColumnAccess(read=False, add=False, change=False)


def column_access(column: Any) -> ColumnAccess:
    """Return what a column leaves to the service.

    Args:
        column: anything but a column of a table is open, as a computed expression.

    Raises:
        TypeError: the declaration is none that every backend can enforce.
    """
    if not isinstance(column, Column):
        return OPEN
    declared = {name: column.info[name] for name in OPERATIONS if name in column.info}
    if not declared:
        return OPEN
    for name, rule in declared.items():
        if rule != service:
            raise TypeError(
                f'{column}: info={{"{name}": …}} takes the rule service alone, since all callers '
                "have one role in the database; for other rules put the column into a model of "
                "its own"
            )
    if "read" in declared and column.primary_key:
        raise TypeError(f"{column}: the primary key of a row cannot be hidden from its readers")
    if {"write", "add"} & {*declared} and not _is_set_by_database(column):
        raise TypeError(
            f"{column}: callers add rows without this column, so it must be nullable or have a "
            "server_default, and no default of Python's"
        )
    return ColumnAccess(
        read="read" in declared,
        add="write" in declared or "add" in declared,
        change="write" in declared or "change" in declared,
    )


def hidden_columns(columns: Iterable[ColumnElement[Any]]) -> set[Column[Any]]:
    """Return the hidden columns of tables among columns, whatever alias or subquery they are of."""
    return {
        base
        for column in columns
        for base in column.base_columns
        if isinstance(base, Column) and "read" in base.info
    }


def hidden_columns_in(expressions: Iterable[ClauseElement]) -> set[Column[Any]]:
    """Return the hidden columns that expressions read."""
    parts = (part for expression in expressions for part in visitors.iterate(expression))
    return hidden_columns(part for part in parts if isinstance(part, ColumnElement))


def check_readable(hidden: Iterable[Column[Any]]) -> None:
    """Raise NotSupported for hidden columns that a caller's request reads."""
    for name in sorted(map(str, hidden)):
        raise NotSupported(
            f"{name} is read by the service alone, so only the service filters, orders or loads "
            "by it"
        )


def _is_set_by_database(column: Column[Any]) -> bool:
    return column.default is None and (column.nullable or column.server_default is not None)
