"""The relations that `has()` and `any()` of relationships mean: EXISTS over a foreign key.

PostgREST joins by the foreign keys of the database; a hint says which one
(https://docs.postgrest.org/en/v14/references/api/resource_embedding.html).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Column, Exists, Select, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BooleanClauseList,
    ClauseElement,
    ColumnElement,
    Grouping,
)
from sqlalchemy.sql.selectable import ScalarSelect

from amphibase.supabase.records.fields import table_column

Pair = tuple[Column[Any], Column[Any]]


class Step(NamedTuple):
    """A step from a table to rows that a foreign key relates to its rows.

    Attributes:
        table: of the related rows.
        hint: which foreign key leads there.
    """

    table: Table
    hint: str


class Related(NamedTuple):
    """The related rows that an EXISTS looks for.

    Attributes:
        steps: to their table: one, or two where a table is in between.
        criteria: further conditions, of the related rows.
    """

    steps: Sequence[Step]
    criteria: Sequence[ColumnElement[bool]]


def related_rows(exists: Exists, origin: Table) -> Related | None:
    """Return the related rows that an EXISTS looks for.

    Args:
        origin: the table of the rows at hand.

    Returns:
        None where it is anything but rows of tables joined by their foreign keys.
    """
    statement: Any = exists.element
    while isinstance(statement, ScalarSelect | Grouping):
        statement = statement.element
    if not isinstance(statement, Select) or statement.whereclause is None:
        return None
    conditions = _conjuncts(statement.whereclause)
    sources = {each for each in statement.get_children() if isinstance(each, Table)} - {origin}
    known = {*map(id, [*statement.selected_columns, *conditions, origin, *sources])}
    parts = [part for each in statement.get_children() for part in _conjuncts(each)]
    if not {*map(id, parts)} <= known:
        return None  # it has more than FROM and WHERE
    pairs = [pair for each in conditions if (pair := _pair(each)) is not None]
    criteria = [each for each in conditions if _pair(each) is None]
    routes = [(target, *(sources - {target})) for target in sources]
    for target, *between in routes if len(sources) <= 2 else ():
        steps = _steps([origin, *between, target], pairs)
        if steps is not None:
            return Related(steps, criteria)
    return None


def _steps(tables: Sequence[Table], pairs: Sequence[Pair]) -> Sequence[Step] | None:
    """Return the steps from each table to the next, if they are all that the pairs join."""
    steps = []
    rest = [*pairs]
    for origin, target in pairwise(tables):
        here = [pair for pair in rest if {pair[0].table, pair[1].table} == {origin, target}]
        rest = [pair for pair in rest if pair not in here]
        hint = foreign_key_hint(here)
        if hint is None:
            return None
        steps.append(Step(target, hint))
    return None if rest else steps


def foreign_key_hint(pairs: Sequence[Pair]) -> str | None:
    """Return the hint for the foreign key between pairs of columns of two tables.

    Returns:
        Its column, or its name where it has several; None where there is no such key.
    """
    tables = {column.table for pair in pairs for column in pair}
    for referring in tables:
        wanted = {
            (left.name, str(right)) if left.table is referring else (right.name, str(left))
            for left, right in pairs
        }
        for constraint in getattr(referring, "foreign_key_constraints", ()):
            # By name: a table of another MetaData refers to a copy of the table.
            present = {(each.parent.name, each.target_fullname) for each in constraint.elements}
            if present == wanted:
                name, *others = [column for column, _ in present]
                return str(constraint.name) if others else name
    return None


def _conjuncts(condition: Any) -> list[ColumnElement[bool]]:
    while isinstance(condition, Grouping):
        condition = condition.element
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        return [part for clause in condition.clauses for part in _conjuncts(clause)]
    return [condition]


def _pair(condition: ClauseElement) -> Pair | None:
    """Return the columns of two tables that a condition compares by equality."""
    if not isinstance(condition, BinaryExpression) or condition.operator is not operators.eq:
        return None
    left, right = table_column(condition.left), table_column(condition.right)
    if left is None or right is None or left.table is right.table:
        return None
    return left, right
