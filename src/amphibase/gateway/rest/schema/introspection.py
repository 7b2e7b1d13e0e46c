"""Reads the catalog of a database: what the Data API serves, as data."""

import asyncio
import gc
import sys
import threading
from collections import defaultdict, deque, namedtuple
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

import psycopg

from amphibase.errors import ConfigurationError
from amphibase.gateway.rest.schema.catalog import (
    Catalog,
    Column,
    ComputedRelationship,
    MediaHandler,
    Name,
    Parameter,
    Returns,
    Routine,
    Table,
)
from amphibase.gateway.rest.schema.relationships import ForeignKey, ViewColumn, relate
from amphibase.gateway.rest.schema.view_columns import origins

_QUERIES = files("amphibase.gateway.rest.schema") / "introspection.sql"
ROWS_AT_ONCE = 200
SWITCH_SECONDS = 0.0005
"""How long a thread that makes a catalog computes before another has its turn."""

_BUILDS = threading.Lock()  # of what they set and set back, each must see what was before all
SAFEUPDATE = "safeupdate.enabled"
"""The setting of the module safeupdate; a role may have it where the module is missing."""

_ON = ("on", "true", "yes", "1")
_OWN_SETTINGS = """
    SELECT substr(split_part(line, '=', 1), length(%(prefix)s) + 1),
        substr(line, strpos(line, '=') + 1)
    FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS line
    WHERE s.setrole = current_user::regrole
        AND s.setdatabase IN (
            0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
        )
        AND starts_with(line, %(prefix)s)
    ORDER BY s.setdatabase  -- those of this database alone come last, and win
"""
_SETTINGS = """
    SELECT name, current_setting(%(prefix)s || name, true) FROM unnest(%(names)s::text[]) AS name
"""
ISOLATION = "default_transaction_isolation"
"""A function's setting that is the transaction's in any case: within one it would come too late."""


async def read_catalog(
    connection: psycopg.AsyncConnection[Any],
    schemas: Sequence[str],
    hoisted_settings: Sequence[str] = (),
) -> Catalog:
    """Read the catalog, in one transaction and one snapshot.

    Args:
        connection: of any role: all may read these parts of the catalog.
        schemas: the exposed ones, the default first.
        hoisted_settings: the names of functions' settings that are the transaction's too.

    Raises:
        psycopg.Error: the database cannot be reached.
    """
    results: dict[str, _Result] = {}
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Without a search path all names are written with their schemas.
        await cursor.execute("SET LOCAL search_path = ''")
        for name, query in _queries().items():
            await cursor.execute(query.encode(), {"schemas": list(schemas)})
            results[name] = await _fetch(cursor)
    user, version = connection.info.user, connection.info.server_version
    return await asyncio.to_thread(_build, results, schemas, hoisted_settings, user, version)


class _Result(NamedTuple):
    """The rows of a query, as they came."""

    columns: list[str]
    parts: deque[list[tuple[Any, ...]]]

    def rows(self) -> Iterator[Any]:
        """Yield the rows with the columns as attributes, and free them on the way: to free those of
        a large database at once would stop all threads for long."""
        row = namedtuple("row", self.columns)  # type: ignore[misc]  # the query names them
        while self.parts:
            yield from map(row._make, self.parts.popleft())


async def _fetch(cursor: psycopg.AsyncCursor[Any]) -> _Result:
    """Fetch all rows, a few at a time: requests go on meanwhile."""
    assert cursor.description is not None
    result = _Result([column.name for column in cursor.description], deque())
    while some := await cursor.fetchmany(ROWS_AT_ONCE):
        result.parts.append(some)
        await asyncio.sleep(0)
    return result


def _build(
    results: Mapping[str, _Result],
    schemas: Sequence[str],
    hoisted_settings: Sequence[str],
    user: str,
    version: int,
) -> Catalog:
    """Make the catalog, in a thread that makes way: that of a large database takes long."""
    with _building():
        rows = {name: result.rows() for name, result in results.items()}
        return _catalog(rows, schemas, hoisted_settings, user, version)


@contextmanager
def _building() -> Iterator[None]:
    """Have the event loop wait little for what the block makes.

    A thread that computes is interrupted after 5 ms by default, and garbage collection, which stops
    all threads, would look through all of the new objects again and again. Where those of the start
    are exempt from it (`amphibase.server.freeze`), these are too: they stay, and are freed without
    it.
    """
    is_frozen = gc.get_freeze_count() > 0
    with _BUILDS:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        if is_frozen:
            gc.collect(1)  # of the young, as what is garbage by then would stay
        gc.disable()
        try:
            yield
            if is_frozen:
                gc.freeze()
        finally:
            gc.enable()
            sys.setswitchinterval(interval)


def _catalog(
    rows: Mapping[str, Iterable[Any]],
    schemas: Sequence[str],
    hoisted_settings: Sequence[str],
    user: str,
    version: int,
) -> Catalog:
    keys = _primary_keys(rows["keys"])
    columns = _columns(rows["columns"])
    foreign_keys = [_foreign_key(row) for row in rows["foreign_keys"]]
    views = _view_columns(rows["views"], rows["columns_of_views"])
    keys |= {view: _key_of_view(shown, keys) for view, shown in views.items()}
    tables = {
        Name(row.schema, row.name): _table(row, columns, keys)
        for row in rows["tables"]
        if row.schema in schemas
    }
    functions: dict[Name, list[Routine]] = defaultdict(list)
    for row in rows["functions"]:
        functions[Name(row.schema, row.name)].append(_function(row, hoisted_settings))
    role_settings = _role_settings(rows["role_settings"])
    own_settings = role_settings.get(user, {})
    relationships, computed_fields = _computed(rows["row_functions"])
    return Catalog(
        schemas=tuple(schemas),
        tables=tables,
        relationships=relate(foreign_keys, keys, views, schemas),
        computed_relationships=relationships,
        computed_fields=computed_fields,
        functions={name: tuple(sorted(each, key=_rank)) for name, each in functions.items()},
        media_handlers=tuple(_media_handler(row) for row in rows["media_handlers"]),
        representations={
            (row.source, row.target): Name(row.schema, row.name) for row in rows["representations"]
        },
        timezones=frozenset(row.name for row in rows["timezones"]),
        schema_descriptions={row.name: row.description for row in rows["schemas"]},
        role_settings=role_settings,
        requires_where=own_settings.get(SAFEUPDATE, "off").lower() in _ON,
        version=version,
    )


async def read_own_settings(
    connection: psycopg.AsyncConnection[Any], prefix: str
) -> dict[str, str]:
    """Read what ALTER ROLE … SET says for the connection's own role, in this database.

    Args:
        prefix: of the settings' names, such as `pgrst.`; it is not part of the names returned.

    Raises:
        psycopg.Error: the database cannot be reached.
    """
    cursor = await connection.execute(_OWN_SETTINGS, {"prefix": prefix})
    return dict(await cursor.fetchall())


async def read_settings_of_function(
    connection: psycopg.AsyncConnection[Any], call: str, prefix: str, names: Collection[str]
) -> dict[str, str]:
    """Call a function that sets settings, in a read-only transaction, and read them.

    Args:
        call: SQL.
        prefix: of the settings' names, such as `pgrst.`; it is not part of the names returned.
        names: of the settings to read, without the prefix.

    Raises:
        ConfigurationError: the function is not there, or fails.
        psycopg.Error: the database cannot be reached.
    """
    try:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute(f"SELECT {call}".encode())
            cursor = await connection.execute(_SETTINGS, {"prefix": prefix, "names": list(names)})
            return {name: value for name, value in await cursor.fetchall() if value}
    except psycopg.Error as error:
        if connection.closed:
            raise
        reason = error.diag.message_primary or "it fails"
        raise ConfigurationError(f"PGRST_DB_PRE_CONFIG: {call}: {reason}") from None


def _queries() -> dict[str, str]:
    """The queries of the file by their names, which stand in lines `-- name: …` before them."""
    parts = _QUERIES.read_text("utf-8").split("-- name: ")[1:]
    named = (part.partition("\n") for part in parts)
    return {name.strip(): query for name, _, query in named}


def _primary_keys(rows: Iterable[Any]) -> dict[Name, tuple[tuple[str, ...], ...]]:
    """The keys of each table: the primary key first (perhaps empty), then the unique ones."""
    primary: dict[Name, tuple[str, ...]] = {}
    unique: dict[Name, list[tuple[str, ...]]] = defaultdict(list)
    for row in rows:
        name = Name(row.schema, row.name)
        if row.is_primary:
            primary[name] = tuple(row.columns)
        else:
            unique[name].append(tuple(row.columns))
    return {name: (primary.get(name, ()), *unique.get(name, ())) for name in {**primary, **unique}}


def _columns(rows: Iterable[Any]) -> Mapping[Name, dict[str, Column]]:
    columns: dict[Name, dict[str, Column]] = defaultdict(dict)
    for row in rows:
        columns[Name(row.schema, row.table)][row.name] = Column(
            name=row.name,
            type=row.type,
            base_type=row.base_type,
            nullable=row.nullable,
            default=row.default,
            is_generated=row.is_generated,
            max_length=row.max_length,
            enum=tuple(row.enum or ()),
            is_composite_or_array=row.is_composite_or_array,
            description=row.description,
        )
    return columns


def _table(
    row: Any,
    columns: Mapping[Name, dict[str, Column]],
    keys: Mapping[Name, tuple[tuple[str, ...], ...]],
) -> Table:
    name = Name(row.schema, row.name)
    return Table(
        name=name,
        columns=columns.get(name, {}),
        primary_key=keys.get(name, ((),))[0],
        is_view=row.is_view,
        is_partitioned=row.is_partitioned,
        insertable=row.insertable,
        updatable=row.updatable,
        deletable=row.deletable,
        description=row.description,
    )


def _foreign_key(row: Any) -> ForeignKey:
    return ForeignKey(
        constraint=row.constraint,
        source=Name(row.schema, row.name),
        target=Name(row.target_schema, row.target_name),
        columns=tuple(zip(row.columns, row.target_columns, strict=True)),
    )


def _view_columns(
    views: Iterable[Any], columns: Iterable[Any]
) -> dict[Name, tuple[ViewColumn, ...]]:
    """What each view shows of tables: through other views, too."""
    names, relations = {}, {}
    for row in columns:
        names[row.oid, row.number] = row.column
        relations[row.oid] = Name(row.schema, row.name), row.is_view
    direct = {row.oid: origins(row.definition) for row in views}

    def shown(oid: int, number: int, seen: frozenset[int]) -> tuple[Name, str] | None:
        """The table and column behind a column, if one alone is."""
        if oid not in relations:
            return None
        name, is_view = relations[oid]
        if not is_view:
            column = names.get((oid, number))
            return None if column is None else (name, column)
        origin = direct.get(oid, {}).get(number)
        if origin is None or oid in seen:
            return None
        return shown(*origin, seen | {oid})

    view_columns = {}
    for oid, numbers in direct.items():
        if oid not in relations:  # a view without any column
            continue
        behind = {number: shown(*origin, frozenset({oid})) for number, origin in numbers.items()}
        view_columns[relations[oid][0]] = tuple(
            ViewColumn(names[oid, number], *each)
            for number, each in behind.items()
            if each is not None and (oid, number) in names
        )
    return view_columns


def _key_of_view(
    shown: Sequence[ViewColumn], keys: Mapping[Name, tuple[tuple[str, ...], ...]]
) -> tuple[tuple[str, ...], ...]:
    """The columns that show whole primary keys, as the view's own."""
    columns: list[str] = []
    for table in dict.fromkeys(column.table for column in shown):
        primary = keys.get(table, ((),))[0]
        behind = {column.column: column.name for column in shown if column.table == table}
        if primary and all(column in behind for column in primary):
            columns += [behind[column] for column in primary]
    return (tuple(columns),)


def _function(row: Any, hoisted_settings: Sequence[str]) -> Routine:
    required = len(row.types) - row.defaults
    parameters = tuple(
        Parameter(name or "", type, index < required, variadic)
        for index, (name, type, variadic) in enumerate(
            zip(row.names, row.types, row.variadics, strict=True)
        )
    )
    settings = dict(each.split("=", 1) for each in row.settings or ())
    return Routine(
        name=Name(row.schema, row.name),
        parameters=parameters,
        returns=Returns(
            type=row.returns,
            is_set=row.returns_set,
            is_composite=row.returns_composite,
            table=Name(row.table_schema, row.table_name) if row.table_name else None,
            is_void=row.returns_void,
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


def _computed(
    rows: Iterable[Any],
) -> tuple[dict[Name, tuple[ComputedRelationship, ...]], dict[Name, frozenset[Name]]]:
    """Functions of a row: those that lead to rows, and those that give a value."""
    relationships: dict[Name, list[ComputedRelationship]] = defaultdict(list)
    fields: dict[Name, set[Name]] = defaultdict(set)
    for row in rows:
        source, function = Name(row.source_schema, row.source_name), Name(row.schema, row.name)
        if row.target_name:
            target = Name(row.target_schema, row.target_name)
            relationships[source].append(
                ComputedRelationship(function, source, target, to_one=row.to_one)
            )
        elif not row.returns_set:
            fields[source].add(function)
    return (
        {name: tuple(each) for name, each in relationships.items()},
        {name: frozenset(each) for name, each in fields.items()},
    )


def _role_settings(rows: Iterable[Any]) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:  # a database's own come last, and win
        settings[row.role][row.name] = row.value
    return dict(settings)


def _media_handler(row: Any) -> MediaHandler:
    target = Name(row.target_schema, row.target_name) if row.target_name else None
    return MediaHandler(Name(row.schema, row.name), row.media_type, target)
