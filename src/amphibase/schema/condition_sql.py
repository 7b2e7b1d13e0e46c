"""Writes conditions of access as SQL of Postgres, for policies, triggers and functions.

In policies and triggers, a table that a condition reads besides the row's own is limited by its own
policies, as Postgres applies them to the caller. What its rule for reading requires is therefore
not written again. In functions that run as the tables' owner, it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Exists, Table, exists, literal_column
from sqlalchemy.sql import visitors

from amphibase.access.caller import EMAIL, ID, CallerValue
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
    ScopeQuery,
    Subquery,
    conjuncts,
    walk,
)
from amphibase.records.model_access import access_of
from amphibase.schema.ddl import DIALECT, LINE_LENGTH, expression_sql, literal, quoted
from amphibase.schema.generated_functions import CALLER_ID, CALLER_VARIABLE
from amphibase.schema.scope_functions import ScopeFunction

UID = "(SELECT auth.uid())"

_BARE_ELEMENT = re.compile(r"(?!null$)[a-z_]\w*", re.IGNORECASE | re.ASCII)


def claim(*path: str) -> str:
    """Return a claim of the caller's token as text, evaluated once a statement."""
    return f"((SELECT auth.jwt()) #>> {literal(_array(path))})"


@dataclass(frozen=True, slots=True)
class Row:
    """The row that a condition is about, as SQL names it.

    Args:
        table: whose columns it has.
        name: of the table, its alias, or a variable such as `OLD`; quoted where it must be.
        is_alone: whether nothing else has columns there, so that names stand without the table's.
        for_owner: whether the SQL is of a function that runs as the tables' owner, whom no policies
            limit, and that has declared `variables`.
    """

    table: Table
    name: str
    is_alone: bool = False
    for_owner: bool = False

    @classmethod
    def of_policy(cls, table: Table) -> "Row":
        """Return the row that a policy of a table is about."""
        return cls(table, quoted(table.name), is_alone=True)

    @property
    def caller(self) -> str:
        """The id of the caller."""
        return CALLER_VARIABLE if self.for_owner else UID

    def column(self, column: ColumnElement[Any], *, alone: bool | None = None) -> str:
        """Return the name of a column of the row."""
        assert isinstance(column, Column)
        name = quoted(column.name)
        return name if (self.is_alone if alone is None else alone) else f"{self.name}.{name}"


def condition_sql(condition: Condition, row: Row) -> str:
    """Return a condition of a row as SQL.

    Args:
        condition: as it is for the roles that the SQL is for.
    """
    match condition:
        case Always():
            return "true"
        case Never():
            return "false"
        case IsSignedIn():
            return f"{row.caller} IS NOT NULL"
        case IsAdmin():
            return f"{claim('app_metadata', 'role')} = 'admin'"
        case IsOwner(column, or_anonymous):
            operator = "IS NOT DISTINCT FROM" if or_anonymous else "="
            return f"{row.column(column)} {operator} {row.caller}"
        case IsAlive(column):
            return f"{row.column(column)} IS NULL"
        case InScope(column, query):
            function = ScopeFunction.of(query)
            called = f"(SELECT {function.call})::{function.returned}"
            values = quoted(function.name) if row.for_owner else called
            return f"{row.column(column)} = ANY ({values})"
        case HasRelated():
            return _related(condition, row)
        case Matches():
            return _matches(condition, row)
        case AllOf(parts):
            return _joined("AND", [_part(part, row) for part in parts])
        case AnyOf(parts):
            return _joined("OR", [_part(part, row) for part in parts])
    raise TypeError(f"{condition!r} is no condition")


def _part(condition: Condition, row: Row) -> str:
    sql = condition_sql(condition, row)
    return f"({sql})" if isinstance(condition, AllOf | AnyOf) else sql


def _related(condition: HasRelated, row: Row) -> str:
    table = condition.relationship.target
    assert isinstance(table, Table)
    name = quoted(table.name)
    source = name
    if table is row.table:
        name = quoted(f"amphibase_{condition.relationship.key}")
        source += f" AS {name}"
    related = Row(table, name, for_owner=row.for_owner)
    conditions = [
        f"{related.column(theirs)} = {row.column(ours, alone=False)}"
        for ours, theirs in condition.relationship.local_remote_pairs or ()
    ]
    required = [_part(part, related) for part in conjuncts(condition.condition)]
    if not row.for_owner:
        # The related table's own policy for SELECT holds there without being written.
        known = {
            _part(part, related) for part in conjuncts(access_of(condition.mapper.class_).read)
        }
        required = [sql for sql in required if sql not in known]
    conditions += required
    lines = [f"SELECT FROM {source}", "WHERE " + "\n    AND ".join(map(_indented, conditions))]
    line = f"EXISTS ({' '.join(lines)})"
    if len(line) <= LINE_LENGTH and "\n" not in line:
        return line
    return "EXISTS (\n    " + "\n    ".join(map(_indented, lines)) + "\n)"


def _matches(condition: Matches, row: Row) -> str:
    alone = row.is_alone and not condition.subqueries
    limited = {each.element: _limited(each, row) for each in condition.subqueries}

    def own(element: Any, **_: Any) -> ColumnElement[Any] | None:
        if isinstance(element, CallerValue):
            return literal_column(_caller_value(element, row), element.type)
        if isinstance(element, Column) and element.table.description == row.table.description:
            return literal_column(row.column(element, alone=alone), element.type)
        return None

    expression = visitors.replacement_traverse(
        condition.expression, {}, lambda element, **_: limited.get(element)
    )
    return expression_sql(visitors.replacement_traverse(expression, {}, own))


def _limited(subquery: Subquery, row: Row) -> Exists:
    """Return an EXISTS to which softly deleted rows do not exist; for an owner, neither do those
    that the caller may not read.

    It selects no columns: Postgres would write down those that the tables have now.
    """
    query: Any = subquery.element.element
    select = query.element.with_only_columns(literal_column("1"), maintain_column_froms=True)
    for table, condition in subquery.conditions:
        other = Row(table, quoted(table.name), for_owner=row.for_owner)
        for part in conjuncts(condition):
            if row.for_owner or isinstance(part, IsAlive):
                select = select.where(literal_column(_part(part, other)))
    return exists(select)


def _caller_value(value: CallerValue, row: Row) -> str:
    if value.path == ID:
        return row.caller
    if value.form is not None:
        text = f"auth.jwt() #>> {literal(_array(value.path))}"
        type_ = value.form.sql_type.compile(DIALECT)
        matches = f"{text} ~ {literal(f'^{value.form.pattern}$')}"
        return f"(SELECT CASE WHEN {matches} THEN ({text})::{type_} END)"
    return "(SELECT auth.email())" if value.path == EMAIL else claim(*value.path)


def _array(path: tuple[str, ...]) -> str:
    """Return texts as Postgres writes an array of them."""
    return "{" + ",".join(map(_array_element, path)) + "}"


def _array_element(text: str) -> str:
    if _BARE_ELEMENT.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _joined(word: str, parts: list[str]) -> str:
    line = f" {word} ".join(parts)
    if len(line) <= LINE_LENGTH and "\n" not in line:
        return line
    return "\n    " + f"\n    {word} ".join(map(_indented, parts)) + "\n"


def _indented(sql: str) -> str:
    return sql.replace("\n", "\n    ")


def columns_read(condition: Condition) -> Iterator[Column[Any]]:
    """Yield the columns that a condition reads, of the row's table and of others."""
    for part in walk(condition):
        match part:
            case IsOwner(column) | IsAlive(column):
                yield column
            case InScope(column, query):
                yield from (column, query.column, query.user)
                for expression in query.where:
                    yield from _columns_of(expression)
            case HasRelated(relationship):
                for pair in relationship.local_remote_pairs or ():
                    yield from (column for column in pair if isinstance(column, Column))
            case Matches(expression):
                yield from _columns_of(expression)


def tables_read(condition: Condition) -> Iterator[Table]:
    """Yield the tables whose policies limit what a condition reads besides the row."""
    for part in walk(condition):
        match part:
            case HasRelated(relationship):
                assert isinstance(relationship.target, Table)
                yield relationship.target
            case Matches(_, subqueries):
                yield from (table for each in subqueries for table, _ in each.conditions)


def scope_queries(condition: Condition) -> Iterator[ScopeQuery]:
    """Return the scopes that a condition names."""
    return (part.query for part in walk(condition) if isinstance(part, InScope))


def variables(condition: Condition) -> dict[str, str]:
    """Return what a function for the owner declares before a condition, by the variables' names.

    Postgres plans a statement for the values of variables, and knows how many there are.
    """
    functions = map(ScopeFunction.of, scope_queries(condition))
    scopes = {quoted(each.name): f"{each.returned} := {each.values}" for each in functions}
    return {CALLER_VARIABLE: CALLER_ID, **scopes}


def _columns_of(expression: ColumnElement[Any]) -> Iterator[Column[Any]]:
    yield from (part for part in visitors.iterate(expression) if isinstance(part, Column))
