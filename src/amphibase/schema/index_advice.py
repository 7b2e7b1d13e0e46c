"""Looks for indexes that access rules need, that slow them down or that policies bypass, and for
unique constraints that tell callers of rows which they may not see."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Column, Enum, Index, MetaData, Numeric, Table, UniqueConstraint
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from amphibase.access.conditions import (
    Condition,
    HasRelated,
    InScope,
    IsOwner,
    IsSignedIn,
    Never,
    implies,
    leaves,
)
from amphibase.records.adoption import adopted
from amphibase.schema.policies import TableRules, declared


def index_advice(metadata: MetaData) -> list[str]:
    """Return what to do about the indexes and unique constraints of models, a sentence each.

    Raises:
        ConfigurationError: a model's access declaration is wrong.
    """
    return list(dict.fromkeys(line for rules in declared(metadata) for line in _advice(rules)))


def bypassed_indexes(metadata: MetaData) -> list[str]:
    """Return which indexes callers' filters cannot use under row level security, a sentence each.

    Postgres puts a condition before a policy only if its operator is LEAKPROOF (docs of CREATE
    FUNCTION); those of enums and `numeric` are not, nor are functions such as `lower`.

    Raises:
        ConfigurationError: a model's access declaration is wrong.
    """
    return [line for rules in declared(metadata) for line in _bypassed(rules)]


def _advice(rules: TableRules) -> Iterator[str]:
    if rules.access is None:
        return
    for condition in rules.conditions():
        yield from _missing(condition)
    narrowing = {column.name for column in _narrowing(rules.access.read)}
    if not narrowing:
        return
    yield from _slow(rules)
    if rules.access.is_writable:
        yield from _telling(rules.source, narrowing)


def _missing(condition: Condition) -> Iterator[str]:
    for part in leaves(condition):
        match part:
            case InScope(column, query):
                yield from _without_index(column, "rows are found by a scope")
                yield from _without_index(query.user, "the caller's memberships are found")
            case IsOwner(column):
                yield from _without_index(column, "rows are found by their owner")
            case HasRelated(relationship, _, related):
                for _, there in relationship.local_remote_pairs or ():
                    if isinstance(there, Column):
                        yield from _without_index(there, f"{relationship} is found for each row")
                yield from _missing(related)


def _without_index(column: Column[Any], use: str) -> Iterator[str]:
    table = adopted(column.table)
    if column.name not in {columns[0] for columns in _keys(table)}:
        yield f"{table.name}: no index begins with {column.name}, by which {use}; add one"


def _slow(rules: TableRules) -> Iterator[str]:
    access = rules.access
    assert access is not None
    if not any(isinstance(part, InScope) for part in leaves(access.read)):
        return
    for index in rules.source.indexes:
        names = [getattr(each, "name", "") for each in index.expressions]
        if names and names[0] == "created_at":
            yield (
                f"{rules.table}: {index.name} is read for lists in place of an index by scope, "
                "past all rows of others; drop it"
            )


def _bypassed(rules: TableRules) -> Iterator[str]:
    if rules.access is None or not _narrowing(rules.access.read):
        return
    for index in sorted(rules.source.indexes, key=lambda index: str(index.name)):
        first = next(iter(index.expressions), None)
        is_btree = index.dialect_options["postgresql"]["using"] in (False, "btree")
        if is_btree and (cure := _cure(first)):
            yield (
                f"{rules.table}: with RLS=true, {index.name} serves the service alone, since "
                f"policies come before a comparison of {getattr(first, 'name', '')}; {cure}"
            )


def _cure(expression: object) -> str | None:
    """Return what to declare in place of an expression whose comparison is not LEAKPROOF."""
    if isinstance(expression, FunctionElement):
        return "index a Computed column of it"
    if not isinstance(expression, Column):
        return None
    kind = expression.type
    implemented = kind.impl if isinstance(kind, TypeDecorator) else kind
    if isinstance(implemented, Enum) and implemented.native_enum:
        return "declare the column as Enum(…, native_enum=False)"
    if isinstance(implemented, Numeric):
        return "an Integer, say of cents, has no such limit"
    return None


def _telling(table: Table, narrowing: set[str]) -> Iterator[str]:
    for part in (*table.constraints, *table.indexes):
        if isinstance(part, UniqueConstraint) or (isinstance(part, Index) and part.unique):
            names = [column.name for column in part.columns]
            if names and not narrowing.intersection(names):
                columns = ", ".join(names)
                yield (
                    f"{table.name}: a conflict of ({columns}) tells a caller of a row that they "
                    f"may not see; add {' or '.join(sorted(narrowing))} to {part.name}"
                )


def _narrowing(condition: Condition) -> list[Column[Any]]:
    """Return the columns by which a condition lets callers see some rows of a table and not others;
    none where all signed-in callers see all rows."""
    if isinstance(condition, Never) or implies(IsSignedIn(), condition):
        return []
    columns: list[Column[Any]] = []
    for part in leaves(condition):
        match part:
            case InScope(column) | IsOwner(column):
                columns.append(column)
            case HasRelated(relationship):
                pairs: Iterable[Any] = relationship.local_remote_pairs or ()
                columns += [here for here, _ in pairs]
    return columns


def _keys(table: Table) -> list[list[str]]:
    """Return the columns of everything that has an index; of expressions nothing."""
    parts = [table.primary_key, *table.constraints, *table.indexes]
    keys = [
        [getattr(each, "name", "") for each in part.expressions]
        if isinstance(part, Index)
        else [column.name for column in part.columns]
        for part in parts
        if isinstance(part, Index | UniqueConstraint) or part is table.primary_key
    ]
    return [names for names in keys if names]
