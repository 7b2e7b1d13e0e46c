"""The conditions of one operation, bound to a mapped class: what a rule comes to.

A backend makes of them a predicate, the text of a policy, or an explanation.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Exists, Table
from sqlalchemy.orm import Mapper, RelationshipProperty


class Condition:
    """A condition of a row and a caller."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Always(Condition):
    """Every row, for every caller."""


@dataclass(frozen=True, slots=True)
class Never(Condition):
    """No row, for no caller but the service."""


@dataclass(frozen=True, slots=True)
class AnyOf(Condition):
    """At least one of at least two conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AllOf(Condition):
    """All of at least two conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class IsSignedIn(Condition):
    """The caller is signed in."""


@dataclass(frozen=True, slots=True)
class IsAdmin(Condition):
    """The caller is an administrator."""


@dataclass(frozen=True, slots=True)
class IsOwner(Condition):
    """The signed-in caller's id is in a column.

    Args:
        or_anonymous: whether an anonymous caller owns the rows in which the column is NULL.
    """

    column: Column[Any]
    or_anonymous: bool = False


@dataclass(frozen=True, slots=True)
class IsAlive(Condition):
    """The row is not softly deleted.

    Args:
        column: the time of the deletion.
    """

    column: Column[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ScopeQuery:
    """The rows of a table that give the caller a scope.

    Args:
        column: whose values are in the scope.
        user: the column that has the caller's id.
        where: which of the caller's rows count: expressions over columns of the table and
            constants. They include that the rows are not softly deleted.
    """

    table: Table
    column: Column[Any]
    user: Column[Any]
    where: tuple[ColumnElement[bool], ...]


@dataclass(frozen=True, slots=True)
class InScope(Condition):
    """The value of a column is in a scope of the signed-in caller.

    Args:
        query: one object for each scope that is declared.
    """

    column: Column[Any]
    query: ScopeQuery


@dataclass(frozen=True, slots=True)
class HasRelated(Condition):
    """The row has a related row that meets a condition.

    Args:
        relationship: leads to one row; joins by equal columns.
        mapper: of the related row.
        condition: of the related row, which includes that it is not softly deleted.
    """

    relationship: RelationshipProperty[Any]
    mapper: Mapper[Any]
    condition: Condition


@dataclass(frozen=True, slots=True)
class RefersTo(Condition):
    """The row refers to a row that meets a condition, or to none.

    Args:
        columns: of the foreign key: where one is NULL, the row refers to none.
        referred: the columns of the other row that they hold the values of.
        condition: of the other row, which includes that it is not softly deleted.
    """

    columns: tuple[Column[Any], ...]
    referred: tuple[Column[Any], ...]
    condition: Condition

    @property
    def table(self) -> Table:
        """The table that it refers to."""
        table = self.referred[0].table
        assert isinstance(table, Table)
        return table

    @property
    def is_of_tree(self) -> bool:
        """Whether the row refers to rows of its own table."""
        own = self.columns[0].table
        return isinstance(own, Table) and own.fullname == self.table.fullname


@dataclass(frozen=True, slots=True)
class Subquery:
    """An EXISTS in an expression.

    Args:
        element: as it stands in the expression.
        conditions: which rows of each table in its FROM count, by table: those that the caller may
            read and that are not softly deleted.
    """

    element: Exists
    conditions: tuple[tuple[Table, Condition], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Matches(Condition):
    """An expression is true: not false, and not NULL.

    Args:
        expression: over the row's own columns, values of the caller (`CallerValue`), constants and
            subqueries.
        subqueries: what stands in it.
    """

    expression: ColumnElement[bool]
    subqueries: tuple[Subquery, ...] = ()


def any_of(*conditions: Condition) -> Condition:
    """Return the condition that at least one of them holds, without parts that others include."""
    parts = _flat(AnyOf, conditions)
    kept = [part for part in parts if not isinstance(part, Never)]
    kept = _without_redundant(kept, lambda part, other: implies(other, part))
    return AnyOf(tuple(kept)) if len(kept) > 1 else kept[0] if kept else Never()


def all_of(*conditions: Condition) -> Condition:
    """Return the condition that all of them hold, without parts that follow from others."""
    parts = _flat(AllOf, conditions)
    if any(isinstance(part, Never) for part in parts):
        return Never()
    kept = [part for part in parts if not isinstance(part, Always)]
    kept = _without_redundant(kept, implies)
    return AllOf(tuple(kept)) if len(kept) > 1 else kept[0] if kept else Always()


def implies(first: Condition, second: Condition) -> bool:
    """Return whether the second condition is seen to hold wherever the first does."""
    if isinstance(first, Never) or isinstance(second, Always) or first == second:
        return True
    if isinstance(first, AnyOf):
        return all(implies(part, second) for part in first.parts)
    if isinstance(second, AllOf):
        return all(implies(first, part) for part in second.parts)
    if isinstance(first, AllOf) and any(implies(part, second) for part in first.parts):
        return True
    if isinstance(second, AnyOf):
        return any(implies(first, part) for part in second.parts)
    match first, second:
        case ((IsAdmin() | InScope() | IsOwner(or_anonymous=False)), IsSignedIn()):
            return True
        case HasRelated(), IsSignedIn():
            return implies(first.condition, second)
        case IsOwner(or_anonymous=False), IsOwner():
            return first.column is second.column
    return False


def conjuncts(condition: Condition) -> tuple[Condition, ...]:
    """Return the conditions that all have to hold for one to hold: itself, if it has no parts."""
    return condition.parts if isinstance(condition, AllOf) else (condition,)


def leaves(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions of which one is made by "and" and "or": itself, if it has no parts."""
    if isinstance(condition, AnyOf | AllOf):
        for part in condition.parts:
            yield from leaves(part)
    else:
        yield condition


def walk(condition: Condition) -> Iterator[Condition]:
    """Yield the leaves of a condition, each followed by those of what it requires of other rows."""
    for leaf in leaves(condition):
        yield leaf
        match leaf:
            case HasRelated(condition=related) | RefersTo(condition=related):
                yield from walk(related)
            case Matches(subqueries=subqueries):
                for subquery in subqueries:
                    for _, readable in subquery.conditions:
                        yield from walk(readable)


def _flat(kind: type[AnyOf | AllOf], conditions: Iterable[Condition]) -> list[Condition]:
    flat: list[Condition] = []
    for each in conditions:
        flat += each.parts if isinstance(each, kind) else (each,)
    return flat


def _without_redundant(
    parts: Sequence[Condition], makes_redundant: Callable[[Condition, Condition], bool]
) -> list[Condition]:
    """Return the parts without those that another makes redundant; of two alike, the first."""
    kept: list[Condition] = []
    for part in parts:
        if not any(makes_redundant(other, part) for other in kept):
            kept = [other for other in kept if not makes_redundant(part, other)]
            kept.append(part)
    return kept
