"""Reads the catalog of a database: what the Data API serves, as data.

It is made of the rows as they come, half a millisecond at a time, on the event loop. A thread would
not do: one that computes keeps the interpreter from the others while the system has it wait for a
core. And it is few objects, since garbage collection looks through all of them at once: what a
table has is read when a request first names it.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.resources import files
from time import perf_counter
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.rows import namedtuple_row

from amphibase.gateway.rest.schema.catalog import (
    Catalog,
    Column,
    ComputedRelationship,
    MediaHandler,
    Name,
    Parameter,
    Relationship,
    Returns,
    Routine,
    Table,
)
from amphibase.gateway.rest.schema.lazily import Lazily
from amphibase.gateway.rest.schema.relationships import ForeignKey, ForeignKeys, ViewColumn
from amphibase.gateway.rest.schema.view_columns import origins

_QUERIES = files("amphibase.gateway.rest.schema") / "introspection.sql"
ROWS_AT_ONCE = 50
TURN_SECONDS = 0.0005
"""How long a catalog is made before requests have their turn."""

_ENUM = [field.name for field in fields(Column)].index("enum")
Item = TypeVar("Item")
_Keys: TypeAlias = Mapping[Name, tuple[tuple[str, ...], ...]]

SAFEUPDATE = "safeupdate.enabled"
"""The setting of the module safeupdate; a role may have it where the module is missing."""

_SETTINGS = (
    "SET LOCAL search_path = ''",  # so that all names are written with their schemas
    # The rows are few: neither compiling nor a second process, which would slow down requests
    # meanwhile, pays off, whatever the planner expects.
    "SET LOCAL jit = off",
    "SET LOCAL max_parallel_workers_per_gather = 0",
)
_ON = ("on", "true", "yes", "1")
ISOLATION = "default_transaction_isolation"
"""A function's setting that is the transaction's in any case: within one it would come too late."""


class _CatalogReader:
    """Reads the rows of the queries of `introspection.sql`, by their names.

    Args:
        cursor: of one transaction, whose rows have the columns as attributes.
        schemas: the exposed ones.
        extra_search_path: schemas whose views are seen through as well.
    """

    def __init__(
        self,
        cursor: psycopg.AsyncCursor[Any],
        schemas: Sequence[str],
        extra_search_path: Sequence[str],
    ) -> None:
        self._cursor = cursor
        self._parameters = {
            "schemas": list(schemas),
            "view_schemas": [*schemas, *extra_search_path],
        }
        self._queries = _queries()
        self.name = cache(Name)  # one object of each, as there are many of them

    async def rows(self, name: str, **values: Any) -> AsyncIterator[Any]:
        """Yield the rows of a query, and let requests have their turn in between.

        Args:
            values: of the query's parameters that are not schemas.
        """
        query = self._queries[name].encode()
        await self._cursor.execute(query, {**self._parameters, **values})
        while rows := await self._cursor.fetchmany(ROWS_AT_ONCE):
            async for row in in_turns(rows):
                yield row


async def in_turns(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Yield the items, and let the event loop's other tasks have their turn in between."""
    await asyncio.sleep(0)
    end = perf_counter() + TURN_SECONDS
    for item in items:
        yield item
        if perf_counter() > end:
            await asyncio.sleep(0)
            end = perf_counter() + TURN_SECONDS


async def read_catalog(
    connection: psycopg.AsyncConnection[Any],
    schemas: Sequence[str],
    hoisted_settings: Sequence[str] = (),
    timezones: frozenset[str] | None = None,
    extra_search_path: Sequence[str] = (),
) -> Catalog:
    """Read the catalog, in one transaction and one snapshot.

    Args:
        connection: of any role: all may read these parts of the catalog.
        schemas: the exposed ones, the default first.
        hoisted_settings: the names of functions' settings that are the transaction's too.
        timezones: what `read_timezones` returned; None reads them, too.
        extra_search_path: schemas after the exposed ones, whose views are seen through.

    Raises:
        psycopg.Error: the database cannot be reached.
    """
    if timezones is None:
        timezones = await read_timezones(connection)
    async with connection.transaction(), connection.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for setting in _SETTINGS:
            await cursor.execute(setting)
        reader = _CatalogReader(cursor, schemas, extra_search_path)
        return await _catalog(reader, schemas, hoisted_settings, timezones, connection.info)


async def read_timezones(connection: psycopg.AsyncConnection[Any]) -> frozenset[str]:
    """Read the names of the time zones: the server looks through a thousand files for them.

    Raises:
        psycopg.Error: the database cannot be reached.
    """
    cursor = await connection.execute("SELECT name FROM pg_catalog.pg_timezone_names()")
    return frozenset([name for (name,) in await cursor.fetchall()])


async def _catalog(
    reader: _CatalogReader,
    schemas: Sequence[str],
    hoisted_settings: Sequence[str],
    timezones: frozenset[str],
    info: psycopg.ConnectionInfo,
) -> Catalog:
    keys = await _primary_keys(reader)
    views = await _view_columns(reader)
    keys |= {view: _key_of_view(shown, keys) async for view, shown in in_turns(views.items())}
    role_settings = await _role_settings(reader)
    own_settings = role_settings.get(info.user, {})
    relationships, computed_fields = await _computed(reader)
    return Catalog(
        schemas=tuple(schemas),
        tables=await _tables(reader, keys),
        relationships=await _relationships(reader, keys, views, schemas),
        computed_relationships=relationships,
        computed_fields=computed_fields,
        functions=await _functions(reader, hoisted_settings),
        media_handlers=tuple(
            [_media_handler(reader, row) async for row in reader.rows("media_handlers")]
        ),
        representations={
            (row.source, row.target): reader.name(row.schema, row.name)
            async for row in reader.rows("representations")
        },
        timezones=timezones,
        schema_descriptions={row.name: row.description async for row in reader.rows("schemas")},
        role_settings=role_settings,
        requires_where=own_settings.get(SAFEUPDATE, "off").lower() in _ON,
        version=info.server_version,
    )


def _queries() -> dict[str, str]:
    """The queries of the file by their names, which stand in lines `-- name: …` before them."""
    parts = _QUERIES.read_text("utf-8").split("-- name: ")[1:]
    named = (part.partition("\n") for part in parts)
    return {name.strip(): query for name, _, query in named}


async def _primary_keys(reader: _CatalogReader) -> dict[Name, tuple[tuple[str, ...], ...]]:
    primary: dict[Name, tuple[str, ...]] = {}
    unique: dict[Name, list[tuple[str, ...]]] = defaultdict(list)
    async for row in reader.rows("keys"):
        name = reader.name(row.schema, row.name)
        if row.is_primary:
            primary[name] = tuple(row.columns)
        else:
            unique[name].append(tuple(row.columns))
    return {name: (primary.get(name, ()), *unique.get(name, ())) for name in {**primary, **unique}}


async def _tables(reader: _CatalogReader, keys: _Keys) -> Mapping[Name, Table]:
    columns = {
        reader.name(row.schema, row.table): row.columns async for row in reader.rows("columns")
    }
    rows = {reader.name(row.schema, row.name): row[2:] async for row in reader.rows("tables")}

    def table(name: Name) -> Table:
        return Table(name, _columns(columns.get(name, "[]")), keys.get(name, ((),))[0], *rows[name])

    return Lazily(rows, table)


def _columns(definitions: str) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for values in json.loads(definitions):
        values[_ENUM] = tuple(values[_ENUM] or ())
        columns[values[0]] = Column(*values)
    return columns


async def _relationships(
    reader: _CatalogReader,
    keys: _Keys,
    views: Mapping[Name, Sequence[ViewColumn]],
    schemas: Sequence[str],
) -> Mapping[Name, tuple[Relationship, ...]]:
    foreign_keys = ForeignKeys(keys, views, schemas)
    async for row in reader.rows("foreign_keys"):
        foreign_keys.add(
            ForeignKey(
                constraint=row.constraint,
                source=reader.name(row.schema, row.name),
                target=reader.name(row.target_schema, row.target_name),
                columns=tuple(zip(row.columns, row.target_columns, strict=True)),
            )
        )
    return Lazily(foreign_keys.relations, foreign_keys.relationships)


async def _view_columns(reader: _CatalogReader) -> dict[Name, tuple[ViewColumn, ...]]:
    """What each view shows of tables: through other views, too."""
    direct = {row.oid: origins(row.definition) async for row in reader.rows("views")}
    relations = {*direct, *(oid for columns in direct.values() for oid, _ in columns.values())}
    column_names: dict[tuple[int, int], str] = {}
    names: dict[int, Name] = {}
    async for row in reader.rows("view_columns", relations=list(relations)):
        column_names[row.oid, row.number] = row.column
        names[row.oid] = reader.name(row.schema, row.name)

    def shown(oid: int, number: int, seen: frozenset[int]) -> tuple[Name, str] | None:
        """The table and column behind a column, if one alone is."""
        if oid not in names:
            return None
        if oid not in direct:
            column = column_names.get((oid, number))
            return None if column is None else (names[oid], column)
        origin = direct[oid].get(number)
        if origin is None or oid in seen:
            return None
        return shown(*origin, seen | {oid})

    view_columns = {}
    async for oid, numbers in in_turns(direct.items()):
        if oid not in names:  # a view without any column
            continue
        behind = {number: shown(*origin, frozenset({oid})) for number, origin in numbers.items()}
        view_columns[names[oid]] = tuple(
            ViewColumn(column_names[oid, number], *each)
            for number, each in behind.items()
            if each is not None and (oid, number) in column_names
        )
    return view_columns


def _key_of_view(shown: Sequence[ViewColumn], keys: _Keys) -> tuple[tuple[str, ...], ...]:
    """The columns that show whole primary keys, as the view's own."""
    columns: list[str] = []
    for table in dict.fromkeys(column.table for column in shown):
        primary = keys.get(table, ((),))[0]
        behind = {column.column: column.name for column in shown if column.table == table}
        if primary and all(column in behind for column in primary):
            columns += [behind[column] for column in primary]
    return (tuple(columns),)


async def _functions(
    reader: _CatalogReader, hoisted_settings: Sequence[str]
) -> dict[Name, tuple[Routine, ...]]:
    functions: dict[Name, list[Routine]] = defaultdict(list)
    async for row in reader.rows("functions"):
        functions[reader.name(row.schema, row.name)].append(
            _function(reader, row, hoisted_settings)
        )
    return {name: tuple(sorted(each, key=_rank)) for name, each in functions.items()}


def _function(reader: _CatalogReader, row: Any, hoisted_settings: Sequence[str]) -> Routine:
    required = len(row.types) - row.defaults
    parameters = tuple(
        Parameter(name or "", type, index < required, variadic)
        for index, (name, type, variadic) in enumerate(
            zip(row.names, row.types, row.variadics, strict=True)
        )
    )
    settings = dict(each.split("=", 1) for each in row.settings or ())
    return Routine(
        name=reader.name(row.schema, row.name),
        parameters=parameters,
        returns=Returns(
            type=row.returns,
            is_set=row.returns_set,
            is_composite=row.returns_composite,
            table=reader.name(row.table_schema, row.table_name) if row.table_name else None,
            is_void=row.returns_void,
            columns=tuple(row.returns_columns or ()),
        ),
        volatility=row.volatility,
        settings={
            name: settings[name] for name in (ISOLATION, *hoisted_settings) if name in settings
        },
        description=row.description,
    )


def _rank(function: Routine) -> tuple[object, ...]:
    """The order of overloads in PostgREST, which errors and the description show."""
    parameters = [(each.name, each.type) for each in function.parameters]
    return len(parameters), function.description or "", parameters


async def _computed(
    reader: _CatalogReader,
) -> tuple[dict[Name, tuple[ComputedRelationship, ...]], dict[Name, frozenset[Name]]]:
    """Functions of a row: those that lead to rows, and those that give a value."""
    relationships: dict[Name, list[ComputedRelationship]] = defaultdict(list)
    fields: dict[Name, set[Name]] = defaultdict(set)
    async for row in reader.rows("row_functions"):
        source, function = (
            reader.name(row.source_schema, row.source_name),
            reader.name(row.schema, row.name),
        )
        if row.target_name:
            target = reader.name(row.target_schema, row.target_name)
            relationships[source].append(
                ComputedRelationship(function, source, target, to_one=row.to_one)
            )
        elif not row.returns_set:
            fields[source].add(function)
    return (
        {name: tuple(each) for name, each in relationships.items()},
        {name: frozenset(each) for name, each in fields.items()},
    )


async def _role_settings(reader: _CatalogReader) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = defaultdict(dict)
    async for row in reader.rows("role_settings"):  # a database's own come last, and win
        settings[row.role][row.name] = row.value
    return dict(settings)


def _media_handler(reader: _CatalogReader, row: Any) -> MediaHandler:
    target = reader.name(row.target_schema, row.target_name) if row.target_name else None
    return MediaHandler(reader.name(row.schema, row.name), row.media_type, target)
