"""Two Postgres databases for the tests of a move between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.sql import SQL
from sqlalchemy.engine import URL

from amphibase.database.url import to_conninfo
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.base import Selection, TablePair
from amphibase.move.tables.postgres import PostgresTables

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TYPE pair AS (mood mood, score numeric);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE TABLE things (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    small smallint, number numeric, money money, real real, double double precision, flag boolean,
    char char(4), varchar varchar(9), text text, bytea bytea, uuid uuid,
    date date, time time, timetz timetz, timestamp timestamp, timestamptz timestamptz,
    interval interval, inet inet, cidr cidr, macaddr macaddr, bit bit(3), varbit bit varying,
    json json, jsonb jsonb, point point, box box, tsvector tsvector, tsquery tsquery,
    mood mood, positive positive, pair pair, moods mood[], pairs pair[], matrix int[][],
    range int4range, multirange datemultirange, hstore hstore,
    doubled int GENERATED ALWAYS AS (small * 2) STORED
);
"""

VALUES = """
INSERT INTO things VALUES
(DEFAULT, -1, 'NaN', '1.20', '-0', 'infinity', true, 'ab', 'ü', E'\\\\N\\t\\n', '\\x00ff',
 '00000000-0000-0000-0000-00000000000a', 'infinity', '24:00', '24:00+02', '-infinity', 'infinity',
 '1 mon -1 day', '::1', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '1', '{"a": 1.0,  "a": 2}',
 '{"a": 1.00}', '(1,-0)', '(1,1),(0,0)', 'a:1A b', 'a & !b',
 'fine', 1, '(sad,1.00)', '{sad,NULL}', '{"(fine,2.0)"}', '[0:1][1:2]={{1,2},{3,4}}',
 '[1,5)', '{[2020-01-01,infinity)}', 'a=>NULL')
"""

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Side:
    """A database of the test, with a connection to it."""

    url: URL
    connection: psycopg.Connection = field(repr=False)

    def run(self, script: str, *values: Any) -> None:
        """Run a script, or a statement with values."""
        self.connection.execute(script.encode(), values or None)

    def rows(self, query: str) -> Rows:
        """Return what a query selects."""
        return self.connection.execute(query.encode()).fetchall()

    def value(self, query: str) -> Any:
        """Return the only value of a query's only row."""
        ((value,),) = self.rows(query)
        return value

    def texts(self, table: str) -> list[str]:
        """Return the rows of a table as Postgres writes them, sorted."""
        query = SQL("SELECT row::text FROM {} AS row").format(SQL(table))
        return sorted(text for (text,) in self.connection.execute(query))


def open_side(url: URL) -> Side:
    """Connect to a database."""
    return Side(url, psycopg.connect(to_conninfo(url), autocommit=True, client_encoding="utf8"))


@dataclass(frozen=True, slots=True)
class TwoDatabases:
    """The source and the target of a move."""

    source: Side
    target: Side
    journal: Journal

    def run(self, script: str) -> None:
        """Run a script on both."""
        self.source.run(script)
        self.target.run(script)

    async def pairs(self, *names: str) -> list[TablePair]:
        """Return the tables of these names, with all columns that a move writes."""
        sides = [await _selections(side, names) for side in (self.source, self.target)]
        return [TablePair(*pair) for pair in zip(*sides, strict=True)]


async def _selections(side: Side, names: Sequence[str]) -> list[Selection]:
    async with PostgresTables(side.url, "tests") as tables:
        catalog = await tables.catalog()
    selections = []
    for name in names:
        table = catalog.table(TableName("public", name))
        assert table is not None
        columns = [column for column in table.columns if column.generated == "no"]
        selections.append(
            Selection(
                table,
                tuple(column.name for column in columns),
                table.key,
                tuple(column.type for column in columns),
            )
        )
    return selections
