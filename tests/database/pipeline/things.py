"""Tables for the tests of a database that libpq's pipeline reaches, and what they do to them."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import INET, JSONB

from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.database.sql_connection import SqlConnection, SqlDatabase
from amphibase.models import UtcDateTime, uuid7

METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("id", Uuid(), primary_key=True, default=uuid7),
    Column("number", Integer, unique=True),
    Column("name", Text),
    Column("is_old", Boolean),
    Column("price", Numeric(10, 2)),
    Column("content", LargeBinary),
    Column("labels", ARRAY(Text)),
    Column("data", JSONB),
    Column("ip", INET),
    Column("made_at", UtcDateTime()),
)
PARTS = Table(
    "parts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("thing", ForeignKey(THINGS.c.id, deferrable=True, initially="DEFERRED")),
)
VALUES: dict[str, Any] = {
    "id": UUID(int=7),
    "number": 7,
    "name": "naïve ☃ '%s' :x $1 \\",
    "is_old": True,
    "price": 12,
    "content": bytes(range(256)),
    "labels": ["a,b", '"', ""],
    "data": {"a": [1, None, "ü"], "b": {"c": 1.5}},
    "ip": "10.0.0.1",
    "made_at": datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=9))),
}
MakeDatabase = Callable[..., PipelineDatabase]


async def numbers(database: SqlDatabase) -> list[int]:
    async with database.read() as connection:
        return [*await connection.scalars(select(THINGS.c.number).order_by(THINGS.c.number))]


async def add(connection: SqlConnection, *numbers: int) -> None:
    for number in numbers:
        await connection.execute(insert(THINGS), {"number": number})
