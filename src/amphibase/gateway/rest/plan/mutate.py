"""Resolves what is written: which columns, of which rows, and what comes back of them."""

from amphibase.gateway.rest.errors.base import InvalidPut, PutWithRange
from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.errors.schema_cache import NoColumn
from amphibase.gateway.rest.plan.read import Reader, is_plain_equality
from amphibase.gateway.rest.plan.types import (
    Demand,
    Embed,
    Node,
    Operand,
    Output,
    Plan,
    Star,
    Write,
)
from amphibase.gateway.rest.request.query import Filter
from amphibase.gateway.rest.schema.catalog import (
    Catalog,
    Column,
    ComputedRelationship,
    Junction,
    Relationship,
    Table,
)


def plan_write(catalog: Catalog, demand: Demand, table: Table, reader: Reader) -> Plan:
    """The plan of an insert, an update, a delete or a PUT.

    Raises:
        RestError: a column that the table lacks, or a PUT that does not name one row.
    """
    query = demand.query
    if demand.action == "put":
        _check_put(demand, table)
    columns: tuple[Column, ...] = ()
    if demand.action != "delete":
        columns = tuple(_columns(demand, table))
    root = reader.read(query, table.name, table, None, table.name.name)
    of_root = [asked for path, asked in query.conditions if not path]
    bare = reader.node(table, None, table.name.name)
    reader.restrict(root, query, with_root=False)
    write = Write(
        table=table,
        columns=columns,
        from_json={
            column.name: catalog.representations["json", column.type]
            for column in columns
            if ("json", column.type) in catalog.representations
        },
        conflict=_conflict(demand, table),
        conditions=tuple(reader.condition(bare, asked) for asked in of_root),
        returned=_returned(demand, table, root),
    )
    return Plan(demand, root, write)


def _check_put(demand: Demand, table: Table) -> None:
    if any(not path for path, _ in demand.query.ranges):
        raise PutWithRange
    names = []
    for path, asked in demand.query.conditions:
        if not path:
            if not isinstance(asked, Filter) or not is_plain_equality(asked):
                raise InvalidPut
            names.append(asked.field.name)
    if not names or sorted(names) != sorted(table.primary_key):
        raise InvalidPut


def _columns(demand: Demand, table: Table) -> list[Column]:
    names = demand.keys if demand.query.columns is None else demand.query.columns
    found = []
    for name in dict.fromkeys(names):
        if name not in table.columns:
            raise NoColumn(name, table.name.name)
        found.append(table.columns[name])
    return found


def _conflict(demand: Demand, table: Table) -> tuple[str, ...]:
    if demand.action == "put":
        return table.primary_key
    if demand.action != "insert" or demand.resolution is None:
        return ()
    for name in demand.query.on_conflict or ():
        if name not in table.columns:
            raise DatabaseError(400, "42703", f'column "{name}" does not exist')
    return demand.query.on_conflict or table.primary_key


def _returned(demand: Demand, table: Table, root: Node) -> tuple[str, ...] | None:
    """The columns that the answer is made of: nobody needs the right to read more."""
    if demand.returning == "minimal":
        return ()
    if demand.returning == "headers-only":
        return table.primary_key if demand.action == "insert" else ()
    names: list[str] = []
    for item in root.select:
        match item:
            case Star():
                return None
            case Output(operand=operand):
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
