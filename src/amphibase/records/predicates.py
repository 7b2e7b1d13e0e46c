"""Conditions of access as SQL expressions, for one caller."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Exists,
    FromClause,
    Select,
    Table,
    Uuid,
    and_,
    any_,
    bindparam,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.sql import visitors

from amphibase.access.caller import CALLER, CallerValue, caller_values
from amphibase.access.conditions import (
    AllOf,
    Always,
    AnyOf,
    Condition,
    HasRelated,
    InScope,
    IsAdmin,
    IsAlive,
    IsOwner,
    IsSignedIn,
    Matches,
    Never,
    RefersTo,
    ScopeQuery,
    Subquery,
    all_of,
    any_of,
    leaves,
    walk,
)
from amphibase.backend import Caller
from amphibase.records.joins import equal_columns

RowColumns = Callable[[Column[Any]], ColumnElement[Any]]
"""Returns what a condition reads for a column of the row."""
Source = Callable[[Table], FromClause]
"""Returns a new FROM clause with the rows of a table, whatever the statement makes of its name."""

_ALWAYS, _NEVER = Always(), Never()


def own_columns(column: Column[Any]) -> ColumnElement[Any]:
    """Return the column of the statement's own table, as `RowColumns`."""
    return column


def columns_of(source: FromClause) -> RowColumns:
    """Return the columns of a FROM clause that has the names of the table's columns."""
    return lambda column: source.c[column.name]


def alias(table: Table) -> FromClause:
    """Return the table under another name, as `Source`."""
    return table.alias()


def fold(condition: Condition, caller: Caller, *, is_own: bool | None = None) -> Condition:
    """Return what is left of a condition for a caller, without what their token decides.

    Args:
        caller: anonymous or a user.
        is_own: whether the row is the caller's own; None where that depends on the row.
    """

    def folded(part: Condition) -> Condition:
        return fold(part, caller, is_own=is_own)

    signed_in = caller.user_id is not None
    match condition:
        case AnyOf(parts):
            return any_of(*map(folded, parts))
        case AllOf(parts):
            return all_of(*map(folded, parts))
        case IsSignedIn():
            return _ALWAYS if signed_in else _NEVER
        case IsAdmin():
            return _ALWAYS if signed_in and caller.is_admin else _NEVER
        case IsOwner(or_anonymous=of_anonymous):
            if not (signed_in or of_anonymous):
                return _NEVER
            return condition if is_own is None else _ALWAYS if is_own else _NEVER
        case InScope():
            return condition if signed_in else _NEVER
        case HasRelated(relationship, mapper, related):
            there = fold(related, caller)
            return there if isinstance(there, Never) else HasRelated(relationship, mapper, there)
        case RefersTo():
            there = fold(condition.condition, caller)
            return there if isinstance(there, Always) else replace(condition, condition=there)
    return condition


def row_columns_read(condition: Condition) -> Iterator[Column[Any]]:
    """Yield the columns of the row that a condition reads."""
    for leaf in leaves(condition):
        match leaf:
            case IsOwner(column) | IsAlive(column) | InScope(column):
                yield column
            case HasRelated(relationship):
                here, _ = equal_columns(relationship.primaryjoin, relationship)
                yield from here
            case RefersTo(columns):
                yield from columns
            case Matches(expression, subqueries):
                others = {table.fullname for each in subqueries for table, _ in each.conditions}
                for element in visitors.iterate(expression):
                    if isinstance(element, Column) and _table_name(element) not in others:
                        yield element


def is_of_row(condition: Condition) -> bool:
    """Return whether a folded condition is about columns of the row and the caller's id alone."""
    return all(isinstance(leaf, Always | Never | IsOwner | IsAlive) for leaf in leaves(condition))


def values_read(condition: Condition) -> dict[str, CallerValue]:
    """Return the values of the caller that a condition reads, by their names."""
    values: dict[str, CallerValue] = {}
    for part in walk(condition):
        if isinstance(part, Matches):
            values |= caller_values(part.expression)
    return values


class Predicates:
    """Writes folded conditions as SQL.

    Args:
        source: gives the tables that a condition reads beside the row's own.
        has_arrays: whether scopes are compared as arrays, which Postgres plans once for all
            callers. It plans `IN (SELECT …)` anew for each, since their estimates differ.
    """

    def __init__(self, caller: Caller, source: Source = alias, *, has_arrays: bool = False) -> None:
        self._caller = caller
        self._source = source
        self._has_arrays = has_arrays

    def write(self, condition: Condition, row: RowColumns = own_columns) -> ColumnElement[bool]:
        """Return the condition as an expression, which is not true where it is NULL.

        Args:
            row: gives the columns of the row that the condition is about.
        """
        match condition:
            case Always():
                return true()
            case AnyOf(parts):
                return or_(*(self.write(part, row) for part in parts))
            case AllOf(parts):
                return and_(*(self.write(part, row) for part in parts))
            case IsAlive(column):
                return row(column).is_(None)
            case IsOwner(column):
                if self._caller.user_id is None:
                    return row(column).is_(None)
                return row(column) == self._caller_id()
            case InScope(column, query):
                if self._has_arrays:
                    return row(column) == any_(self.values(query))
                return row(column).in_(self.scope(query))
            case HasRelated():
                return self._related(condition, row)
            case RefersTo():
                return self._referred(condition, row)
            case Matches():
                return self._matches(condition, row)
        return false()

    def _caller_id(self) -> ColumnElement[Any]:
        return bindparam(CALLER, self._caller.user_id, Uuid())

    def _value(self, value: CallerValue) -> ColumnElement[Any]:
        read = value.read(self._caller.user_id, self._caller.claims)
        return bindparam(value.name, read, value.type)

    def scope(self, query: ScopeQuery) -> Select[Any]:
        """Return the values of a scope, as `key`."""
        members = self._source(query.table)
        own = columns_of(members)
        where = [self._replaced(each, {}, own) for each in query.where]
        is_own = own(query.user) == self._caller_id()
        return select(own(query.column).label("key")).where(is_own, *where).correlate(None)

    def values(self, query: ScopeQuery) -> ColumnElement[Any]:
        """Return the values of a scope as an array of Postgres."""
        return func.array(self.scope(query).scalar_subquery())

    def _related(self, condition: HasRelated, row: RowColumns) -> ColumnElement[bool]:
        table: Any = condition.mapper.local_table
        related = self._source(table)
        relationship = condition.relationship
        here, there = equal_columns(relationship.primaryjoin, relationship)
        own = columns_of(related)
        joined = [own(far) == row(near) for near, far in zip(here, there, strict=True)]
        found: Select[Any] = select(literal_column("1")).select_from(related)
        found = found.where(*joined, self.write(condition.condition, own))
        return exists(found.correlate_except(related))

    def _referred(self, condition: RefersTo, row: RowColumns) -> ColumnElement[bool]:
        other = self._source(condition.table)
        own, here = columns_of(other), [row(column) for column in condition.columns]
        same = [own(far) == near for far, near in zip(condition.referred, here, strict=True)]
        found: Select[Any] = select(literal_column("1")).select_from(other)
        found = found.where(*same, self.write(condition.condition, own))
        refers_to_none = [value.is_(None) for value in here]
        return or_(*refers_to_none, exists(found.correlate_except(other)))

    def _matches(self, condition: Matches, row: RowColumns) -> ColumnElement[bool]:
        replaced = {each.element: self._subquery(each, row) for each in condition.subqueries}
        expression: ColumnElement[bool] = self._replaced(condition.expression, replaced, row)
        return expression

    def _subquery(self, subquery: Subquery, row: RowColumns) -> ColumnElement[bool]:
        """Return an EXISTS that sees only what the caller may see."""
        sources = {table.fullname: self._source(table) for table, _ in subquery.conditions}

        def either(column: Column[Any]) -> ColumnElement[Any]:
            source = sources.get(_table_name(column))
            return row(column) if source is None else source.c[column.name]

        conditions = [fold(each, self._caller) for _, each in subquery.conditions]
        where = [self.write(condition, either) for condition in conditions]
        found: Exists = self._replaced(subquery.element, sources, either)
        return found.where(*where).correlate_except(*sources.values())

    def _replaced(self, expression: Any, replacements: Mapping[Any, Any], row: RowColumns) -> Any:
        """Return an expression of a declaration with the columns of a row, the values of the
        caller, and other replacements: of elements, and of tables by their names."""

        def replace(element: Any, **_: Any) -> Any:
            if isinstance(element, CallerValue):
                return self._value(element)
            if isinstance(element, Column):
                return row(element)
            if isinstance(element, Table):
                return replacements.get(element.fullname)
            return replacements.get(element) if isinstance(element, Exists) else None

        return visitors.replacement_traverse(expression, {}, replace)


def _table_name(column: Column[Any]) -> str:
    table: Any = column.table
    return str(table.fullname)
