"""A table of the plan with both of its sides, and what becomes of its rows on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from amphibase.errors import MoveFailed
from amphibase.move.catalog import CatalogTable, DatabaseCatalog, TableName
from amphibase.move.mappings import mapped_id
from amphibase.move.plan import Plan, TablePlan
from amphibase.move.tables.base import Key, Row, Selection, TablePair
from amphibase.move.tables.canonical import Canonicalize, canonicalizer
from amphibase.move.tables.sqlite_exact import AS_STORED
from amphibase.move.tables.types import JSON_TYPES, is_padded, is_uuid, postgres_type


@dataclass(frozen=True, slots=True)
class MovedTable:
    """A table of the plan, as both catalogs know it.

    Args:
        pair: both sides; mapped columns have the type `uuid` on the target.
        namespaces: of the columns that hold mapped ids, by their place.
        canonical: what makes equal values of a column equal texts; None where they are.
        postponed: places of columns that refer to rows which may come later: they are NULL at
            first, and filled by the comparison that follows.
        without_null: places of JSON columns that the Data API writes, which has no way to say the
            value `null`: it becomes NULL.
    """

    plan: TablePlan
    pair: TablePair
    namespaces: tuple[tuple[int, UUID], ...]
    canonical: tuple[Canonicalize | None, ...]
    postponed: tuple[int, ...] = ()
    without_null: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Return the name that people know: the source's."""
        return self.plan.source

    @property
    def has_equal_types(self) -> bool:
        """Return whether columns have one type on both sides, and no id is mapped."""
        own, other = self.pair.source, self.pair.target
        return not self.namespaces and all(
            own.table.column(name).base_type == other.table.column(there).base_type
            for name, there in zip(own.columns, other.columns, strict=True)
        )

    def for_target(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return rows of the source as the target gets them."""
        has_null = any(_is_null(row[place]) for row in rows for place in self.without_null)
        if not self.namespaces and not has_null:
            return rows
        arriving = []
        for row in rows:
            values = list(row)
            for place, namespace in self.namespaces:
                value = values[place]
                values[place] = None if value is None else mapped_id(namespace, value)
            for place in self.without_null:
                values[place] = None if _is_null(values[place]) else values[place]
            arriving.append(tuple(values))
        return arriving

    def without_postponed(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return rows with NULL in the columns that are filled later."""
        if not self.postponed:
            return rows
        postponed = set(self.postponed)
        return [
            tuple([None if place in postponed else value for place, value in enumerate(row)])
            for row in rows
        ]

    def comparable(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return rows of the target, or for it, in canonical texts."""
        if not any(self.canonical):
            return rows
        changes = [(place, change) for place, change in enumerate(self.canonical) if change]
        canonical = []
        for row in rows:
            values = list(row)
            for place, change in changes:
                value = values[place]
                values[place] = None if value is None else change(value)
            canonical.append(tuple(values))
        return canonical

    def are_equal(self, first: Row, second: Row) -> bool:
        """Return whether two rows of the target, or for it, have the same values."""
        one, other = self.comparable([first, second])
        return one == other

    def key_of(self, row: Row) -> Key:
        """Return the key of a row of either side."""
        return tuple([row[place] or "" for place in self.pair.target.key_indexes])


def moved_tables(
    plan: Plan, source: DatabaseCatalog, target: DatabaseCatalog, *, over_api: bool = False
) -> list[MovedTable]:
    """Return the tables of a plan.

    Args:
        over_api: whether the target is written by the Data API.

    Raises:
        MoveFailed: a side lacks a table or a column of it.
    """
    tables = [_moved_table(table, plan, source, target) for table in plan.tables]
    return [_without_null(table) for table in tables] if over_api else tables


def _moved_table(
    table: TablePlan, plan: Plan, source: DatabaseCatalog, target: DatabaseCatalog
) -> MovedTable:
    own, other = find_table(source, table.source), find_table(target, table.target)
    names = list(table.columns)
    columns = {
        name: (own.column(name), other.column(there))
        for name, there in table.columns.items()
        if _has(own, name) and _has(other, there)
    }
    missing = [name for name in (*names, *table.key) if name not in columns]
    if missing:
        raise MoveFailed(
            f"{table.source}: {missing[0]} is not a column of both sides; edit the plan's columns"
        )
    namespaces = tuple(
        (place, UUID(plan.mappings[table.ids[name]].namespace))
        for place, name in enumerate(names)
        if name in table.ids
    )
    mapped = {place for place, _ in namespaces}
    types: list[str] = []
    canonical: list[Canonicalize | None] = []
    for place, name in enumerate(names):
        mine, theirs = columns[name]
        here = mine.base_type if own.name.schema else postgres_type(mine.type)
        there = theirs.base_type if other.name.schema else postgres_type(theirs.type)
        types.append(there if other.name.schema and not own.name.schema else here)
        if mine.type != theirs.type and is_uuid(mine.type) and is_uuid(theirs.type):
            types[place] = "uuid"  # whose texts have hyphens on one side alone
        if place in mapped:
            types[place] = here
        elif own.name.schema is None and other.name.schema is None and mine.type == theirs.type:
            types[place] = AS_STORED
        # A cast to text, by which the Data API is read, takes the blanks off.
        is_exact = own.name.schema and other.name.schema and here == there and not is_padded(here)
        target_type = there if other.name.schema else types[place]
        is_exact = is_exact or place in mapped or types[place] == AS_STORED
        canonical.append(None if is_exact else canonicalizer(target_type))
    target_types = ["uuid" if place in mapped else type for place, type in enumerate(types)]
    pair = TablePair(
        Selection(own, tuple(names), table.key, tuple(types)),
        Selection(
            other,
            tuple(table.columns.values()),
            tuple(table.columns[name] for name in table.key),
            tuple(target_types),
        ),
    )
    return MovedTable(table, pair, namespaces, tuple(canonical))


def _is_null(json: str | None) -> bool:
    """Return whether a JSON text is the value `null`."""
    return json is not None and json.strip() == "null"


def _without_null(table: MovedTable) -> MovedTable:
    selection = table.pair.target
    places = [
        place
        for place, name in enumerate(selection.columns)
        if selection.table.column(name).base_type in JSON_TYPES
    ]
    return replace(table, without_null=tuple(places))


def find_table(catalog: DatabaseCatalog, name: str) -> CatalogTable:
    """Return a table by its name in the plan. Raises MoveFailed where it is missing."""
    if (table := catalog.planned(name)) is not None:
        return table
    raise MoveFailed(f"{name} is not a table of {catalog.server}; edit the plan")


def _has(table: CatalogTable, name: str) -> bool:
    return any(column.name == name for column in table.columns)


def in_order(tables: Sequence[MovedTable]) -> tuple[list[MovedTable], list[str]]:
    """Put each table after those that it refers to on the target.

    Where they refer to one another in a cycle, or a table to itself, a column that may be NULL is
    postponed.

    Returns:
        The tables, and the foreign keys that no order and no postponing satisfies.
    """
    remaining = {table.pair.target.table.name: table for table in tables}
    places = {name: place for place, name in enumerate(remaining)}
    ordered: list[MovedTable] = []
    unsatisfied: list[str] = []
    while remaining:
        postponed = {name: _postponed(table, remaining) for name, table in remaining.items()}
        # A table that waits for itself alone is as ready as one that waits for nothing.
        name = min(
            remaining,
            key=lambda name: (
                len(_waits_for(remaining[name], remaining) - {name}) > 0,
                len(postponed[name][1]),
                places[name],
            ),
        )
        table = remaining.pop(name)
        columns, others = postponed[name]
        ordered.append(replace(table, postponed=columns))
        unsatisfied += others
    return ordered, unsatisfied


def _waits_for(table: MovedTable, remaining: dict[TableName, MovedTable]) -> set[TableName]:
    return {key.target for key in table.pair.target.table.foreign_keys if key.target in remaining}


def _postponed(
    table: MovedTable, remaining: dict[TableName, MovedTable]
) -> tuple[tuple[int, ...], list[str]]:
    """Return the places of columns to postpone, and foreign keys of which none may be NULL."""
    selection = table.pair.target
    places: list[int] = []
    unsatisfied = []
    for key in selection.table.foreign_keys:
        if key.target not in remaining or not set(key.columns) <= set(selection.columns):
            continue
        nullable = [
            name
            for name in key.columns
            if selection.table.column(name).is_nullable and name not in selection.key
        ]
        if nullable:
            places.append(selection.columns.index(nullable[0]))
        elif key.target != selection.table.name:  # within a table the rows are tried again
            unsatisfied.append(f"{table.name} ({', '.join(key.columns)}) → {key.target}")
    return tuple(sorted(set(places))), unsatisfied
