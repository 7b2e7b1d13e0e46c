"""The order of a list, and the place in it that a cursor remembers (keyset pagination).

Rows are compared as the order says, and by the primary key at last, so that no two are equal. A
NULL sorts as on Postgres, on every engine: as if it were greater than every value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    DateTime,
    Text,
    Time,
    Uuid,
    and_,
    bindparam,
    false,
    literal,
    or_,
    tuple_,
    type_coerce,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.types import TypeDecorator, TypeEngine

from amphibase.errors import InvalidCursor, InvalidRequest
from amphibase.private_names.sqlalchemy import without_annotations
from amphibase.records.arguments import check_list


@dataclass(frozen=True)
class RowOrder:
    """One thing that rows are ordered by.

    Args:
        by: a column or an expression.
        nulls_first: where NULLs go; None where there are none.
        as_text: whether rows are compared by the text that is stored, as on SQLite: a time or a
            UUID that other programs wrote may have another form than SQLAlchemy binds, and would
            be less or greater than itself.
    """

    by: ColumnElement[Any]
    descending: bool
    nulls_first: bool | None
    as_text: bool = False

    @cached_property
    def compared(self) -> ColumnElement[Any]:
        """What a cursor holds of a row, and is compared with."""
        return type_coerce(self.by, Text()) if self.as_text else self.by

    def clause(self) -> ColumnElement[Any]:
        """Return what ORDER BY takes."""
        clause = self.by.desc() if self.descending else self.by.asc()
        if self.nulls_first is None:
            return clause
        return clause.nulls_first() if self.nulls_first else clause.nulls_last()

    def equals(self, value: Any) -> ColumnElement[bool]:
        """Return whether a row has the same value."""
        return self.compared.is_(None) if value is None else self.compared == self._bound(value)

    def follows(self, value: Any) -> ColumnElement[bool]:
        """Return whether a row comes after those that have the value."""
        if value is None:
            return self.compared.is_not(None) if self.nulls_first else false()
        bound = self._bound(value)
        beyond = self.compared < bound if self.descending else self.compared > bound
        return beyond if self.nulls_first is not False else or_(beyond, self.compared.is_(None))

    def reaches(self, value: Any) -> ColumnElement[bool]:
        """Return whether a row, of an order without NULLs, has the value or comes after it."""
        bound = self._bound(value)
        reached = self.compared <= bound if self.descending else self.compared >= bound
        return cast("ColumnElement[bool]", reached)

    def _bound(self, value: Any) -> Any:
        return literal(value, self.compared.type)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.compared.type.python_type)

    def to_json(self, value: Any) -> Any:
        """Return the value as a cursor holds it."""
        if isinstance(value, bytes):
            return value.hex()
        return None if value is None else self._adapter.dump_python(value, mode="json")

    def from_json(self, value: Any) -> Any:
        """Return the value that a cursor holds."""
        if value is None:
            return None
        if self.compared.type.python_type is bytes:
            return bytes.fromhex(value)
        return self._adapter.validate_python(value)


class Ordering:
    """A total order of a model's rows."""

    def __init__(self, terms: Sequence[RowOrder]) -> None:
        self.terms = tuple(terms)

    @property
    def clauses(self) -> list[ColumnElement[Any]]:
        """What ORDER BY takes."""
        return [term.clause() for term in self.terms]

    def position(self, values: Sequence[Any]) -> list[Any]:
        """Return the place of a row, for a cursor.

        Args:
            values: what the row has of each term, as compared.
        """
        return [term.to_json(value) for term, value in zip(self.terms, values, strict=True)]

    def read(self, position: Sequence[Any]) -> list[Any]:
        """Return what the row of a place has of each term.

        Raises:
            InvalidCursor: it is no place in this order.
        """
        try:
            return [term.from_json(value) for term, value in zip(self.terms, position, strict=True)]
        except (ValidationError, ValueError):
            raise InvalidCursor from None

    @property
    def parameters(self) -> list[BindParameter[Any]]:
        """What stands for the values of a place in a statement that serves every place."""
        return [
            bindparam(f"place_{number}", type_=term.compared.type)
            for number, term in enumerate(self.terms)
        ]

    def after(self, values: Sequence[Any], *, compares_rows: bool = True) -> ColumnElement[bool]:
        """Return whether a row comes after a place.

        Args:
            values: what the row of that place has of each term, or the `parameters` of an order
                without NULLs and in one direction.
            compares_rows: whether the backend compares several values at once, `(a, b) > (1, 2)`.
        """
        if self._is_uniform and compares_rows:  # one comparison of rows, which an index serves
            here = tuple_(*(term.compared for term in self.terms))
            there = tuple_(*values, types=[term.compared.type for term in self.terms])
            return here < there if self.terms[0].descending else here > there
        *firsts, last = zip(self.terms, values, strict=True)
        condition = last[0].follows(last[1])
        for term, value in reversed(firsts):
            condition = or_(term.follows(value), and_(term.equals(value), condition))
        if not compares_rows and firsts and self.terms[0].nulls_first is None:
            # Implied by the rest, and what an index is entered by.
            condition = and_(self.terms[0].reaches(values[0]), condition)
        return condition

    @property
    def _is_uniform(self) -> bool:
        first = self.terms[0]
        return all(
            term.nulls_first is None and term.descending == first.descending for term in self.terms
        )


def ordering(
    order_by: Sequence[Any],
    newest_first: Sequence[Column[Any]],
    keys: Sequence[Column[Any]],
    dialect: str,
) -> Ordering:
    """Build the order of a list, newest first by default, made total by the primary key.

    Args:
        dialect: the name of the database's dialect.

    Raises:
        InvalidRequest: it has a term that is no column.
    """
    terms = [_term(each) for each in check_list("order_by", order_by)]
    if terms:
        present = {id(term.by) for term in terms}
        # In the direction of the last, so that one index can serve the whole.
        last = terms[-1].descending
        terms += [RowOrder(column, last, None) for column in keys if id(column) not in present]
    else:
        terms = [RowOrder(column, True, None) for column in newest_first]
    if dialect == "sqlite":
        terms = [replace(term, as_text=_has_several_forms(term.by.type)) for term in terms]
    return Ordering(terms)


def _has_several_forms(type_: TypeEngine[Any]) -> bool:
    """Whether SQLite keeps the type as text of which SQLAlchemy reads more than it writes."""
    if isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    return isinstance(type_, DateTime | Time | Uuid)


def _term(term: Any) -> RowOrder:
    element = term.__clause_element__() if hasattr(term, "__clause_element__") else term
    if not isinstance(element, ColumnElement):
        raise InvalidRequest("order_by: a column was expected, as in Note.title.desc()")
    descending, nulls_first = False, None
    while isinstance(element, UnaryExpression) and element.modifier is not None:
        match element.modifier:
            case operators.desc_op:
                descending = True
            case operators.nulls_first_op:
                nulls_first = True
            case operators.nulls_last_op:
                nulls_first = False
        element = element.element
    column = without_annotations(element) if isinstance(element, Column) else element
    if isinstance(element, Column) and not element.nullable:
        nulls_first = None
    elif nulls_first is None:
        nulls_first = descending
    return RowOrder(_plain(column), descending, nulls_first)


def _plain(element: Any) -> Any:
    """The table's own column behind an attribute of a model."""
    if isinstance(element, Column) and element.table is not None:
        return element.table.c.get(element.key, element)
    return element
