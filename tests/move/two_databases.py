"""Two Postgres databases for the tests of a move between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.sql import SQL
from sqlalchemy.engine import URL, make_url

from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.base import Selection, TablePair
from amphibase.move.tables.postgres import PostgresTables

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


def open_side(url: str) -> Side:
    return Side(make_url(url), psycopg.connect(url, autocommit=True))


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
