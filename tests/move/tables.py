"""Databases with a few tables, and a plan that moves them, for the tests of tables."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import tuple_row

from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Role, parse_endpoint
from amphibase.move.journal import Journal
from amphibase.move.plan import EndPlan, Plan, TablePlan
from amphibase.move.quarantine import Quarantine
from amphibase.move.stage import Outcome
from amphibase.move.tables.stage import TablesStage

DDL = """
    CREATE TABLE people (
        id INTEGER PRIMARY KEY, email VARCHAR(40) NOT NULL UNIQUE, favourite INTEGER,
        boss INTEGER REFERENCES people (id)
    );
    CREATE TABLE posts (
        id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES people (id),
        title VARCHAR(20) NOT NULL
    );
    CREATE TABLE comments (
        post INTEGER REFERENCES posts (id) ON DELETE CASCADE, number INTEGER, text VARCHAR(20),
        PRIMARY KEY (post, number)
    );
    CREATE TABLE visits (page VARCHAR(20));
"""
# On a database that checks foreign keys the cycle is closed afterwards.
CYCLE = "ALTER TABLE people ADD FOREIGN KEY (favourite) REFERENCES posts (id);"
ROWS = """
    INSERT INTO people VALUES (1, 'a@x', NULL, NULL), (2, 'b@x', NULL, 1), (3, 'c@x', NULL, 2);
    INSERT INTO posts VALUES (10, 1, 'first'), (11, 3, 'second');
    INSERT INTO comments VALUES (10, 1, 'c'), (10, 2, 'd'), (11, 1, NULL);
    INSERT INTO visits VALUES ('/'), ('/'), ('/a');
    UPDATE people SET favourite = 11 WHERE id = 1;
    UPDATE people SET boss = 3 WHERE id = 1;
"""
KEYS = {"people": ("id",), "posts": ("id",), "comments": ("post", "number"), "visits": ()}
COLUMNS = {
    "people": ("id", "email", "favourite", "boss"),
    "posts": ("id", "author", "title"),
    "comments": ("post", "number", "text"),
    "visits": ("page",),
}


@dataclass
class Side:
    """A database of the test's own."""

    url: str

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def run(self, script: str) -> None:
        if self.is_sqlite:
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as database:
                database.executescript(script)
            return
        with psycopg.connect(self.url) as connection:
            connection.execute(script.encode())

    def rows(self, query: str) -> list[tuple[object, ...]]:
        if self.is_sqlite:
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as database:
                return list(database.execute(query))
        with psycopg.connect(self.url, row_factory=tuple_row) as connection:
            return connection.execute(query.encode()).fetchall()

    def indexes(self, table: str) -> int:
        """How many indexes a table has beside that of its key."""
        on_sqlite = "SELECT count(*) FROM pragma_index_list('{}')"
        on_postgres = "SELECT count(*) - 1 FROM pg_index WHERE indrelid = '{}'::regclass"
        ((count,),) = self.rows((on_sqlite if self.is_sqlite else on_postgres).format(table))
        assert isinstance(count, int)
        return count

    def name(self, table: str) -> str:
        return table if self.is_sqlite else f"public.{table}"

    def content(self) -> dict[str, list[tuple[object, ...]]]:
        return {
            table: sorted(self.rows(f"SELECT {', '.join(columns)} FROM {table}"), key=str)
            for table, columns in COLUMNS.items()
        }


CLOSED = "favourite INTEGER REFERENCES posts (id)"


def plan_of(source: Side, target: Side, *, merge: bool = False, **changes: TablePlan) -> Plan:
    tables = [
        changes.get(
            name,
            TablePlan(
                source=source.name(name),
                target=target.name(name),
                key=KEYS[name],
                columns={column: column for column in COLUMNS[name]},
                merge=merge and name != "visits",
            ),
        )
        for name in COLUMNS
    ]
    ends = [EndPlan(address=f"sql:{side.url}") for side in (source, target)]
    return Plan(name="p", source=ends[0], target=ends[1], tables=tuple(tables))


@asynccontextmanager
async def opened(
    plan: Plan, folder: Path, source: Side, target: Side
) -> AsyncIterator[TablesStage]:
    path = folder / "plan.toml"
    ends = [
        parse_endpoint(f"sql:{side.url}", role, files=None)
        for side, role in ((source, Role.SOURCE), (target, Role.TARGET))
    ]
    with Journal(path) as journal:
        stage = TablesStage(MoveContext(plan, ends[0], ends[1], journal, Quarantine(path)))
        try:
            yield stage
        finally:
            await stage.close()


async def moved(stage: TablesStage) -> bool:
    """Move everything; return whether both sides are equal."""
    assert [each for each in await stage.check() if each.outcome is Outcome.FAIL] == []
    await stage.run()
    await stage.reconcile()
    assert await stage.reconcile() == 0
    verified = await stage.verify()
    assert verified.differences == []
    return all(first == second for first, second in verified.checksums.values())
