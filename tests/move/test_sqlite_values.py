"""What SQLite stores, and the text that Postgres writes for the same value."""

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Engine,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
    create_engine,
    event,
    insert,
    select,
)

from amphibase.column_types import DECIMAL_COLLATION, compare_decimals
from amphibase.database.url import parse_url
from amphibase.models import ExactDecimal, Json, UtcDateTime, _array
from amphibase.move.tables.base import Selection
from amphibase.move.tables.canonical import canonicalizer
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.sqlite import SqliteTables
from amphibase.move.tables.sqlite_values import sqlite_codec
from amphibase.move.tables.types import TIMESTAMP, TIMESTAMPTZ

ALL = Table(
    "all_types",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("small", Integer),
    Column("big", BigInteger),
    Column("flag", Boolean),
    Column("text", String(20)),
    Column("mood", Enum("sad", "happy", name="mood")),
    Column("double", Double),
    Column("price", Numeric(10, 2)),
    Column("exact", ExactDecimal),
    Column("moment", UtcDateTime),
    Column("naive", DateTime),
    Column("day", Date),
    Column("hour", Time),
    Column("span", Interval),
    Column("bytes", LargeBinary),
    Column("data", Json),
    Column("words", _array(String())),
    Column("numbers", _array(BigInteger())),
    Column("halves", _array(Double())),
    Column("flags", _array(Boolean())),
)

EARLY = datetime(1969, 12, 31, 23, 59, 59, 1, UTC)

ROWS: list[dict[str, Any]] = [
    {"id": uuid.UUID(int=1)},
    {
        "id": uuid.UUID(int=2),
        "small": -7,
        "big": 2**63 - 1,
        "flag": True,
        "text": 'a\t"b"\\n\n',
        "mood": "happy",
        "double": 1e15,
        "price": Decimal("19.90"),
        "exact": Decimal("1.50000000000000000000000001"),
        "moment": datetime(2024, 2, 29, 12, 0, 0, 120000, UTC),
        "naive": datetime(1, 1, 1),
        "day": date(9999, 12, 31),
        "hour": time(23, 59, 59, 999999),
        "span": timedelta(days=-3, seconds=5, microseconds=7),
        "bytes": b"\x00\xff",
        "data": {"b": [1, 2.5, None, "\\ \u00e9"], "a": {"deep": True}},
        "words": ["", "NULL", 'a "b" \\ {c}', "ü"],
        "numbers": [1, -(2**40)],
        "halves": [0.1, 1e300],
        "flags": [True, False],
    },
    {"id": uuid.UUID(int=3), "flag": False, "double": float("-inf"), "data": [], "words": []},
    {
        "id": uuid.UUID(int=4),
        "span": timedelta(hours=30),
        "hour": time(0),
        "text": "",
        "bytes": b"",
    },
]


def opened(url: str) -> Engine:
    """An engine; on SQLite with the collation of decimals."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _: object) -> None:
            connection.create_collation(DECIMAL_COLLATION, compare_decimals)

    return engine


def read(url: str) -> list[dict[str, Any]]:
    engine = opened(url)
    with engine.connect() as connection:
        rows = connection.execute(select(ALL).order_by(ALL.c.id))
        found = [dict(row) for row in rows.mappings()]
    engine.dispose()
    return found


def make(url: str, rows: list[dict[str, Any]]) -> None:
    engine = opened(url)
    ALL.metadata.create_all(engine)
    with engine.begin() as connection:
        for row in rows:
            connection.execute(insert(ALL), row)
    engine.dispose()


async def move(
    source: SqliteTables | PostgresTables, target: SqliteTables | PostgresTables
) -> None:
    """Move all rows from one side to the other, by the types of the one that is a Postgres."""
    tables = []
    for side in (source, target):
        catalog = await side.catalog()
        tables.append(next(table for table in catalog.tables if table.name.name == "all_types"))
    typed = tables[0] if isinstance(source, PostgresTables) else tables[1]
    names = tuple(column.name for column in typed.columns)
    types = tuple(column.base_type for column in typed.columns)
    reading, writing = (Selection(table, names, ("id",), types) for table in tables)
    async for chunk in source.read(reading):
        assert await target.insert(writing, chunk) == []


async def test_what_sqlalchemy_stores_is_the_same_after_it_moved_to_postgres_and_back(
    tmp_path: Path, postgres_url: str
) -> None:
    first, second = f"sqlite:///{tmp_path}/first.db", f"sqlite:///{tmp_path}/second.db"
    on_postgres = postgres_url.replace("postgresql:", "postgresql+psycopg:")
    make(first, ROWS)
    make(second, [])
    make(on_postgres, [])
    async with (
        SqliteTables(parse_url(first), "p") as source,
        PostgresTables(parse_url(postgres_url), "p") as middle,
        SqliteTables(parse_url(second), "p") as target,
    ):
        await move(source, middle)
        await move(middle, target)
    assert read(on_postgres) == read(first) == read(second)


@pytest.mark.parametrize(
    ("declared", "type", "stored", "text"),
    [
        ("BOOLEAN", "boolean", 1, "t"),
        ("INTEGER", "boolean", 0, "f"),
        ("FLOAT", "bigint", 3.0, "3"),
        ("FLOAT", "double precision", float("inf"), "Infinity"),
        ("NUMERIC(10, 2)", "numeric(10,2)", 0.1 + 0.2, "0.30"),
        ("DATETIME", TIMESTAMPTZ, "2024-01-01T12:00:00+02:00", "2024-01-01 10:00:00+00"),
        ("TEXT", TIMESTAMPTZ, "2024-01-01 12:00:00", "2024-01-01 12:00:00+00"),
        ("DATETIME", TIMESTAMP, "2024-01-01 12:00:00.100000", "2024-01-01 12:00:00.1"),
        ("CHAR(32)", "uuid", "0" * 31 + "1", "00000000-0000-0000-0000-000000000001"),
        ("BLOB", "uuid", bytes(15) + b"\1", "00000000-0000-0000-0000-000000000001"),
        ("VARCHAR", "text", 12, "12"),
        ("VARCHAR", "text", b"\xff", "\udcff"),
        ("JSON", "jsonb", 12, "12"),
        ("JSON", "text[]", '["a", null]', "{a,NULL}"),
        ("JSON", "integer[]", "[[1, 2], [3, 4]]", "{{1,2},{3,4}}"),
    ],
)  # fmt: skip
def test_a_value_of_sqlite_becomes_the_text_of_postgres(
    declared: str, type: str, stored: Any, text: str
) -> None:
    assert sqlite_codec(declared, type).to_text(stored) == text


@pytest.mark.parametrize(
    ("declared", "type", "text"),
    [
        ("DATETIME", TIMESTAMPTZ, "infinity"),
        ("DATETIME", TIMESTAMPTZ, "0044-03-15 00:00:00+00 BC"),
        ("DATE", "date", "10000-01-01"),
        ("TIME", "time with time zone", "12:00:00+02"),
        ("TIME", "time without time zone", "24:00:00"),
        ("DATETIME", "interval", "1 mon"),
        ("DATETIME", "interval", "infinity"),
        ("FLOAT", "double precision", "NaN"),
        ("NUMERIC(30, 10)", "numeric", "12345678901234567890.5"),
        ("NUMERIC", "numeric", "NaN"),
        ("INTEGER", "numeric", "9223372036854775808"),
        ("STRING", "text", "0012"),
        ("JSON", "jsonb", "1.00000000000000000001"),
        ("JSON", "integer[]", "[2:3]={1,2}"),
    ],
)
def test_a_value_that_sqlite_would_change_is_rejected(declared: str, type: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        sqlite_codec(declared, type).to_stored(text)


@pytest.mark.parametrize(
    ("type", "left", "right"),
    [
        ("double precision", "1e+15", "1000000000000000.0"),
        ("numeric", "1.10", "1.1"),
        ("numeric", "NaN", "NaN"),
        ("numeric", "-0.00", "0"),
        ("numeric", "-1200", "-1.2e3"),
        ("jsonb", "[1e300000000]", "[10.0E+299999999]"),
        ("jsonb", '{"a": 1, "b": 1e2}', '{"b":100.0,"a":1}'),
        ("interval", "1 day 12:00:00", "36:00:00"),
        ("interval", "-1 days -00:00:01.5", "-24:00:01.500000"),
        (TIMESTAMPTZ, "2024-01-01 00:00:00+00", "2024-01-01 00:00:00"),
        ("numeric[]", "{1.0,NULL}", "{1,NULL}"),
    ],
)
def test_equal_values_have_one_canonical_text(type: str, left: str, right: str) -> None:
    canonical = canonicalizer(type)
    assert canonical is not None
    assert canonical(left) == canonical(right)


@pytest.mark.parametrize(
    ("type", "left", "right"),
    [
        ("numeric", "0.1", "0.10000000000000000001"),
        ("numeric", "10", "1"),
        ("numeric", "-1", "1"),
        ("jsonb", "1e300000000", "1e300000001"),
        ("jsonb", '{"a": 1}', '{"a": "1"}'),
        ("jsonb", "12345678901234567890123", "12345678901234567890124"),
        ("interval", "1 mon", "30 days"),
        ("interval", "infinity", "00:00:00"),
        ("text[]", '{"NULL"}', "{NULL}"),
    ],
)
def test_other_values_have_another_canonical_text(type: str, left: str, right: str) -> None:
    canonical = canonicalizer(type) or str
    assert canonical(left) != canonical(right)
