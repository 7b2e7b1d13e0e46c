"""Tables by the Data API: every type as Postgres has it, limits, and lost requests."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from tests.move.test_tables import expose, find, run
from tests.supabase.fault_proxy import (
    BAD_GATEWAY,
    SERVER_BUSY,
    FaultProxy,
    fault_proxy,
    too_many_requests,
)

from amphibase.database.url import parse_url
from amphibase.errors import ConfigurationError, MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Role, SqlEndpoint, SupabaseEndpoint
from amphibase.move.journal import Journal
from amphibase.move.plan import EndPlan, Plan, TablePlan
from amphibase.move.project import client_of
from amphibase.move.quarantine import Quarantine
from amphibase.move.stage import Outcome
from amphibase.move.tables.base import Chunk, Referrer, Row, Selection
from amphibase.move.tables.data_api import DataApiTables
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.stage import TablesStage
from amphibase.schema.triggers import BODIES, UPDATED_AT, VERSION, Trigger, statements
from amphibase.testing.supabase import LocalSupabase

TYPES: dict[str, list[str]] = {
    "smallint": ["-32768"],
    "bigint": ["9223372036854775807"],
    "numeric": ["NaN", "-Infinity", "1.50", "0.1000000000000000000000000000001", "1" + "0" * 5000],
    "numeric(8,2)": ["19.90"],
    "real": ["1.1", "-0", "Infinity"],
    "double precision": ["1e+15", "NaN", "5e-324"],
    "boolean": ["t", "f"],
    "text": ["", "NULL", "a\t\n\\\"'ü𝄞", "\x01"],
    "character(5)": ["ab   "],
    "varchar(3)": ["abc"],
    "bytea": ["\\x", "\\x00ff"],
    "uuid": ["00000000-0000-0000-0000-000000000001"],
    "date": ["infinity", "0044-03-15 BC", "2024-02-29"],
    "time": ["24:00:00", "12:00:00.5"],
    "timetz": ["12:00:00+02"],
    "timestamp": ["-infinity", "2024-01-01 00:00:00.000001"],
    "timestamptz": ["infinity", "294276-12-31 23:59:59+00", "2024-01-01 00:00:00+00"],
    "interval": ["1 year 2 mons 3 days 04:05:06.7", "-1 days +02:00:00"],
    "json": ['{"b" : 1.0,  "a": [1, null]}', '"text"', "1e400"],
    "jsonb": ['{"a": 1.50, "b": "\\u0001"}', "[]", "12345678901234567890123"],
    "inet": ["10.0.0.1", "10.0.0.0/8", "::1"],
    "cidr": ["10.0.0.0/8"],
    "int4range": ["[1,5)", "empty"],
    "tstzrange": ['["2024-01-01 00:00:00+00",infinity)'],
    "integer[]": ["{1,NULL,3}", "{{1,2},{3,4}}", "[2:3]={1,2}"],
    "text[]": ['{"",NULL,"NULL","a \\"b\\" {c}"}'],
    "boolean[]": ["{t,f}"],
    "jsonb[]": ['{"{\\"a\\": 1}"}'],
    "xml": ["<a>b</a>"],
    "bit(3)": ["101"],
    "tsvector": ["'a':1 'b':2"],
    "money": ["$1.50"],
    "public.move_mood": ["happy"],
    "public.move_price": ["1.50"],
    "public.move_pair": ['(1,"a b")', "(,)"],
}
SETUP = """
    DROP TABLE IF EXISTS typed;
    DROP TYPE IF EXISTS move_mood, move_pair; DROP DOMAIN IF EXISTS move_price;
    CREATE TYPE move_mood AS ENUM ('sad', 'happy');
    CREATE TYPE move_pair AS (a int, b text);
    CREATE DOMAIN move_price AS numeric(8, 2) CHECK (VALUE > 0);
"""
DROP = SETUP.partition("CREATE TYPE")[0]


def rows_of_types() -> list[Row]:
    """A row for each value, and one without any."""
    rows: list[Row] = [("0", *[None] * len(TYPES))]
    for place, values in enumerate(TYPES.values()):
        for value in values:
            row: list[str | None] = [None] * len(TYPES)
            row[place] = value
            rows.append((str(len(rows)), *row))
    return rows


@pytest.fixture
async def api(supabase: LocalSupabase, tmp_path: Path) -> AsyncIterator[DataApiTables]:
    """The tables of a project, with one that has a column of every type."""
    columns = ", ".join(f"c{place} {type}" for place, type in enumerate(TYPES))
    create = (
        f"{SETUP} CREATE TABLE typed (id int PRIMARY KEY, {columns}); "
        "ALTER ROLE service_role SET timezone = 'Asia/Tokyo'"
    )
    endpoint = SupabaseEndpoint(Role.TARGET, supabase.url, SecretStr(supabase.service_role_key))
    with Journal(tmp_path / "plan.toml") as journal:
        async with DataApiTables(client_of(endpoint), journal) as opened:
            await expose(opened, supabase.db_url, create, "typed")
            yield opened
    run(
        supabase.db_url,
        f"{DROP} ALTER ROLE service_role RESET timezone; NOTIFY pgrst, 'reload schema'",
    )


async def selection_of(tables: DataApiTables | PostgresTables) -> Selection:
    table = find(await tables.catalog(), "typed")
    return Selection(table, tuple(column.name for column in table.columns), ("id",), ())


async def test_values_of_every_type_are_written_and_read_as_postgres_writes_them(
    api: DataApiTables, supabase: LocalSupabase
) -> None:
    selection = await selection_of(api)
    rows = rows_of_types()
    assert await api.insert(selection, Chunk(rows, (str(len(rows)),))) == []
    async with PostgresTables(parse_url(supabase.db_url), "p") as tables:
        direct = await selection_of(tables)
        there = [row async for chunk in tables.read(direct) for row in chunk.rows]
    read = [row async for chunk in api.read(selection) for row in chunk.rows]
    blank = selection.columns.index(f"c{list(TYPES).index('character(5)')}")
    trimmed = [(*row[:blank], row[blank] and "ab", *row[blank + 1 :]) for row in there]
    assert there == rows
    assert read == trimmed  # a cast to text takes the blanks off


@dataclass
class Numbers:
    """A table of numbers in a project, by its Data API through a proxy."""

    api: DataApiTables
    proxy: FaultProxy
    url: str
    selection: Selection

    @property
    def table(self) -> TableName:
        return self.selection.table.name

    def rows(self) -> list[tuple[int, int | None]]:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute("SELECT id, parent FROM numbers ORDER BY id")
            return list(cursor.fetchall())

    def chunk(self, first: int, last: int) -> Chunk:
        return Chunk([(str(number), None) for number in range(first, last + 1)], (str(last),))


@pytest.fixture
async def numbers(supabase: LocalSupabase, tmp_path: Path) -> AsyncIterator[Numbers]:
    """An empty table, whose rows may refer to rows of it."""
    create = "CREATE TABLE numbers (id int PRIMARY KEY, parent int)"
    async with fault_proxy(supabase.url) as proxy:
        key = SecretStr(supabase.service_role_key)
        endpoint = SupabaseEndpoint(Role.TARGET, proxy.url, key)
        with Journal(tmp_path / "plan.toml") as journal:
            async with DataApiTables(client_of(endpoint), journal) as api:
                await expose(api, supabase.db_url, create, "numbers")
                table = find(await api.catalog(), "numbers")
                selection = Selection(table, ("id", "parent"), ("id",), ())
                yield Numbers(api, proxy, supabase.db_url, selection)
    run(supabase.db_url, "DROP TABLE numbers")


async def test_every_row_is_read_although_a_project_cuts_its_responses(numbers: Numbers) -> None:
    with psycopg.connect(numbers.url) as connection:
        connection.execute("INSERT INTO numbers SELECT n, n % 2 FROM generate_series(1, 3500) AS n")
    chunks = [chunk async for chunk in numbers.api.read(numbers.selection)]
    assert max(len(chunk.rows) for chunk in chunks) == 1000  # of 5000 that were requested
    assert [row[0] for chunk in chunks for row in chunk.rows] == [str(n) for n in range(1, 3501)]
    keys = [(str(number),) for number in range(3600)]
    assert len(await numbers.api.rows(numbers.selection, keys)) == 3500
    by_parent = Referrer(numbers.table, ("parent",), ("id",))
    assert await numbers.api.delete(numbers.selection, keys[1:5], [by_parent]) == 3
    assert [row for row in numbers.rows() if row[0] < 6] == [(1, 1), (5, 1)]


@pytest.mark.parametrize(
    "fault",
    ["drop", "lose", "cut", SERVER_BUSY, BAD_GATEWAY, too_many_requests(1)],
    ids=["drop", "lose", "cut", "503", "502", "429"],
)
async def test_each_row_arrives_once_whatever_happens_to_a_request(
    numbers: Numbers, fault: str | bytes
) -> None:
    numbers.proxy.faults = [fault, fault]
    assert await numbers.api.insert(numbers.selection, numbers.chunk(1, 50)) == []
    numbers.proxy.faults = [fault]
    read = [row async for chunk in numbers.api.read(numbers.selection) for row in chunk.rows]
    assert len(read) == len(numbers.rows()) == 50


async def test_a_row_arrives_as_it_is_where_triggers_count_its_changes(numbers: Numbers) -> None:
    counted = [Trigger("numbers", name, (), BODIES[name]) for name in (UPDATED_AT, VERSION)]
    columns = "ADD version int NOT NULL, ADD updated_at timestamptz NOT NULL"
    change = "; ".join([f"ALTER TABLE numbers {columns}", *statements(counted)])
    await expose(numbers.api, numbers.url, change, "numbers")
    table = find(await numbers.api.catalog(), "numbers")
    selection = Selection(table, ("id", "version", "updated_at"), ("id",), ("", "", "timestamptz"))
    earlier, later = "2025-01-01 00:00:00+00", "2025-01-02 00:00:00+00"
    for version, time in (("7", earlier), ("9", earlier), ("9", later), ("9", later)):
        row = ("1", version, time)
        assert await numbers.api.upsert(selection, [row]) == []
        assert await numbers.api.rows(selection, [("1",)]) == {("1",): row}


async def test_a_checkpoint_waits_for_the_chunks_before_it(numbers: Numbers) -> None:
    numbers.proxy.faults = [response := asyncio.Event()]
    requests = numbers.proxy.requests
    first = asyncio.create_task(numbers.api.insert(numbers.selection, numbers.chunk(1, 5)))
    while numbers.proxy.requests == requests:  # noqa: ASYNC110 - nothing else says so
        await asyncio.sleep(0.01)
    await numbers.api.insert(numbers.selection, numbers.chunk(6, 10))
    assert await numbers.api.checkpoint(numbers.table) is None
    response.set()
    await first
    assert await numbers.api.checkpoint(numbers.table) == ("10",)


async def test_a_key_that_the_project_does_not_take_stops_the_move(
    supabase: LocalSupabase,
) -> None:
    key = SecretStr(supabase.service_role_key[:-4] + "AAAA")
    client = client_of(SupabaseEndpoint(Role.TARGET, supabase.url, key))
    async with DataApiTables(client) as api:
        with pytest.raises(MoveFailed, match="rejects the service's key"):
            await api.catalog()
    with pytest.raises(ConfigurationError, match="has the role 'anon', and service_role is needed"):
        client_of(SupabaseEndpoint(Role.TARGET, supabase.url, SecretStr(supabase.anon_key)))


async def test_a_table_that_the_service_may_not_write_is_named_with_what_to_grant(
    numbers: Numbers,
) -> None:
    run(numbers.url, "REVOKE INSERT ON numbers FROM service_role")
    with pytest.raises(MoveFailed, match=r"GRANT ALL ON public\.numbers TO service_role"):
        await numbers.api.insert(numbers.selection, numbers.chunk(1, 2))


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("doubled int GENERATED ALWAYS AS (id * 2) STORED", "doubled"),
        ("number int GENERATED ALWAYS AS IDENTITY", "number"),
    ],
    ids=["generated", "identity"],
)
async def test_a_column_that_the_database_alone_writes_is_named_before_anything_is_written(
    numbers: Numbers, column: str, reason: str
) -> None:
    assert await numbers.api.write_error(numbers.selection) is None
    await expose(numbers.api, numbers.url, f"ALTER TABLE numbers ADD {column}", "numbers")
    table = find(await numbers.api.catalog(), "numbers")
    names = tuple(column.name for column in table.columns)
    assert reason in (await numbers.api.write_error(Selection(table, names, ("id",), ())) or "")
    assert numbers.rows() == []


async def test_what_the_data_api_does_not_write_is_named(
    numbers: Numbers, supabase: LocalSupabase, sqlite_url: str, tmp_path: Path
) -> None:
    run(sqlite_url, "CREATE TABLE numbers (id INTEGER PRIMARY KEY, data JSON)")
    run(sqlite_url, "INSERT INTO numbers VALUES (1, 'null'), (2, NULL), (3, '[null]')")
    change = "ALTER TABLE numbers ADD data jsonb"
    await expose(numbers.api, numbers.url, change, "numbers")
    table = TablePlan(
        source="numbers",
        target="public.numbers",
        key=("id",),
        columns={"id": "id", "data": "data"},
    )
    ends = EndPlan(address=f"sql:{sqlite_url}"), EndPlan(address=f"supabase:{supabase.url}")
    plan = Plan(name="p", source=ends[0], target=ends[1], tables=(table,))
    source = SqlEndpoint(Role.SOURCE, parse_url(sqlite_url), "")
    target = SupabaseEndpoint(Role.TARGET, supabase.url, SecretStr(supabase.service_role_key))
    path = tmp_path / "other.toml"
    with Journal(path) as journal:
        stage = TablesStage(MoveContext(plan, source, target, journal, Quarantine(path)))
        checks = await stage.check()
        assert {(check.outcome, check.subject) for check in checks} == {(Outcome.WARN, "numbers")}
        assert [word for word in ("null", "counter") if word in str(checks)] == ["null", "counter"]
        await stage.run()
        assert await stage.reconcile() == 0
        verified = await stage.verify()
        assert verified.differences == []
        (counter,) = verified.not_moved
        assert "the counter of numbers" in counter.what
        await stage.close()
    with psycopg.connect(numbers.url) as connection:
        there = connection.execute("SELECT id, data::text FROM numbers ORDER BY id").fetchall()
    assert there == [(1, None), (2, None), (3, "[null]")]
