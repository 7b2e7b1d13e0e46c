"""Columns and paths into JSON, as PostgREST names them."""

from typing import Any

from sqlalchemy import Column, Table, types
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, Grouping, TypeCoerce
from sqlalchemy.sql.operators import custom_op

from amphibase.errors import NotSupported
from amphibase.records.filters.tree import FieldPath, JsonStep

SHOWN_CHARACTERS = 300


def table_column(element: Any) -> Column[Any] | None:
    """Return the table's own column behind an attribute of a model; None for anything else."""
    if not isinstance(element, Column) or not isinstance(element.table, Table):
        return None
    column: Column[Any] | None = element.table.c.get(element.key)
    return column


def field_path(element: Any, table: Table) -> FieldPath | None:
    """Return the field of a table that an expression is: a column, or a path into its JSON."""
    element = unwrapped(element)
    column = table_column(element)
    if column is not None:
        return FieldPath(column.name) if column.table is table else None
    if not isinstance(element, BinaryExpression) or not isinstance(element.right, BindParameter):
        return None
    inner = field_path(element.left, table)
    keys: Any = element.right.effective_value
    if inner is None:
        return None
    if element.operator is operators.json_getitem_op or _opstring(element) in ("->", "->>"):
        keys = (keys,)
    elif element.operator is not operators.json_path_getitem_op:
        return None
    # What is compared as text is read as text; else it is JSON, as numbers in it are.
    as_text = _opstring(element) == "->>" or isinstance(element.type, types.String)
    steps = [JsonStep(key, as_text and at == len(keys)) for at, key in enumerate(keys, 1)]
    return FieldPath(inner.name, (*inner.path, *steps))


def unwrapped(element: Any) -> Any:
    """Return what is inside parentheses and `type_coerce`."""
    while isinstance(element, Grouping | TypeCoerce):
        element = element.element if isinstance(element, Grouping) else element.typed_expression
    return element


def unsupported(element: Any) -> NotSupported:
    """Return the error of an expression that PostgREST has nothing for."""
    text = " ".join(str(element).split())
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]}…"
    return NotSupported(f"The Data API of Supabase has no filter or order for this: {text}")


def _opstring(element: BinaryExpression[Any]) -> str | None:
    return element.operator.opstring if isinstance(element.operator, custom_op) else None
