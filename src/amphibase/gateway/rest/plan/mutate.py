"""Resolves what is written: which columns, of which rows, and what comes back of them."""

from dataclasses import replace

from amphibase.gateway.rest.errors.base import InvalidPut, PutWithRange
from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.errors.schema_cache import NoColumn
from amphibase.gateway.rest.plan.read import ReadPlanner, is_plain_equality
from amphibase.gateway.rest.plan.types import (
    ActionPlan,
    Embed,
    MutatePlan,
    Operand,
    OutputColumn,
    PlanKey,
    ReadPlan,
    Star,
)
from amphibase.gateway.rest.schema.catalog import (
    Catalog,
    Column,
    ComputedRelationship,
    Junction,
    Relationship,
    Table,
)
from amphibase.records.filters.tree import Filter


def plan_mutate(catalog: Catalog, key: PlanKey, table: Table, planner: ReadPlanner) -> ActionPlan:
    """Plan an insert, an update, a delete or a PUT.

    Raises:
        RestError: a column that the table lacks, or a PUT that does not name one row.
    """
    if key.action == "put":
        _check_put(key, table)
    query = replace(key.query, ranges=())  # nothing of what was written is cut
    columns: tuple[Column, ...] = ()
    if key.action != "delete":
        columns = tuple(_columns(key, table))
    root = planner.read(query, table.name, table, None, table.name.name)
    planner.restrict(root, query, is_written=True)
    if key.returning == "minimal":
        planner.allow_unknown_columns()
    of_root = [condition for path, condition in query.conditions if not path]
    bare = planner.node(table, None, table.name.name)
    write = MutatePlan(
        table=table,
        columns=columns,
        from_json={
            column.name: catalog.representations["json", column.type]
            for column in columns
            if ("json", column.type) in catalog.representations
        },
        conflict=_conflict(key, table),
        conditions=()
        if key.action == "insert"  # which ignores them, even those on no column
        else tuple(planner.condition(bare, condition) for condition in of_root),
        returned=_returned(key, table, root),
    )
    return ActionPlan(key, root, write)


def _check_put(key: PlanKey, table: Table) -> None:
    if any(not path for path, _ in key.query.ranges):
        raise PutWithRange
    names = set()
    for path, condition in key.query.conditions:
        if path or not isinstance(condition, Filter) or not is_plain_equality(condition):
            raise InvalidPut
        names.add(condition.field.name)
    if not names or names != set(table.primary_key):
        raise InvalidPut


def writes_columns(key: PlanKey) -> bool:
    """Return whether the body or `columns=` names any column to write."""
    return bool(_column_names(key))


def _column_names(key: PlanKey) -> tuple[str, ...]:
    named = None if key.action == "put" else key.query.columns  # a PUT is of a whole row
    return key.keys if named is None else named


def _columns(key: PlanKey, table: Table) -> list[Column]:
    columns = []
    for name in dict.fromkeys(_column_names(key)):
        if name not in table.columns:
            raise NoColumn(name, table.name.name)
        columns.append(table.columns[name])
    return columns


def _conflict(key: PlanKey, table: Table) -> tuple[str, ...]:
    if key.action == "put":
        return table.primary_key
    if key.action != "insert" or key.resolution is None:
        return ()
    for name in key.query.on_conflict or ():
        if name not in table.columns:
            raise DatabaseError(400, "42703", f'column "{name}" does not exist')
    return key.query.on_conflict or table.primary_key


def _returned(key: PlanKey, table: Table, root: ReadPlan) -> tuple[str, ...] | None:
    """Return the columns of the response: no right to read other columns is needed."""
    if key.returning == "minimal":
        return ()
    if key.returning == "headers-only":
        key_columns = (name for name in table.columns if name in table.primary_key)
        return tuple(key_columns) if key.action == "insert" else ()
    names: list[str] = []
    for item in root.select:
        match item:
            case Star():
                return None
            case OutputColumn(operand=operand):
                names += _named(operand)
            case Embed(relationship=ComputedRelationship()):
                return None
            case Embed(relationship=Relationship(columns=columns, junction=None)):
                names += [column for column, _ in columns]
            case Embed(relationship=Relationship(junction=Junction(source=columns))):
                names += [column for _, column in columns]
    for sort in root.sorts:
        names += _named(sort.operand)
    if any(name not in table.columns for name in names):
        return None  # computed fields need the whole row
    return tuple(dict.fromkeys(names))


def _named(operand: Operand | None) -> list[str]:
    return [] if operand is None else [operand.name]
