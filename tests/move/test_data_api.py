"""Tables by the Data API: every type as Postgres has it, limits, and lost requests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.move.test_tables import find, run, until_shown

from amphibase.database.url import parse_url
from amphibase.move.endpoints import Role, SupabaseEndpoint
from amphibase.move.journal import Journal
from amphibase.move.project import client_of
from amphibase.move.tables.base import Chunk, Row, Selection
from amphibase.move.tables.data_api import DataApiTables
from amphibase.move.tables.postgres import PostgresTables
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
    run(
        supabase.db_url,
        f"{SETUP} CREATE TABLE typed (id int PRIMARY KEY, {columns}); "
        "GRANT ALL ON typed TO service_role; NOTIFY pgrst, 'reload schema'",
    )
    endpoint = SupabaseEndpoint(Role.TARGET, supabase.url, SecretStr(supabase.service_role_key))
    with Journal(tmp_path / "plan.toml") as journal:
        async with DataApiTables(client_of(endpoint), journal) as opened:
            await until_shown(opened, {"typed"})
            yield opened
    run(supabase.db_url, DROP)


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
