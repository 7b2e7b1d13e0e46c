"""Rows of tables whose keys, names or parents make it hard to tell which they are."""

import json
from pathlib import Path

import pytest
from tests.move.tables import Side, moved, opened, plan_of
from tests.servers import Databases

from amphibase.database.url import parse_url
from amphibase.errors import MoveFailed
from amphibase.move.plan import EndPlan, Plan, TablePlan
from amphibase.move.stage import Outcome
from amphibase.move.tables import sqlite
from amphibase.move.tables.base import CHUNK_BYTES, Selection
from amphibase.move.tables.sqlite import SqliteTables


async def test_rows_of_a_table_that_inherits_are_its_own_and_not_those_of_its_parent(
    tmp_path: Path, databases: Databases
) -> None:
    with databases.new() as here, databases.new() as there:
        source, target = Side(here), Side(there)
        source.run("CREATE TABLE parent (id int PRIMARY KEY, n int)")
        target.run("CREATE TABLE parent (id int PRIMARY KEY, n numeric)")
        for side in (source, target):
            side.run("CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)")
        source.run("INSERT INTO child VALUES (1, 1), (2, 2)")
        tables = tuple(
            TablePlan(source=name, target=name, key=("id",), columns={"id": "id", "n": "n"})
            for name in ("public.child", "public.parent")
        )
        plan = plan_of(source, target).model_copy(update={"tables": tables})
        async with opened(plan, tmp_path, source, target) as stage:
            assert await moved(stage)
            assert target.rows("SELECT * FROM ONLY parent") == []
            source.run("INSERT INTO parent VALUES (1, 5); UPDATE parent SET n = 6 WHERE id = 1")
            source.run("DELETE FROM child WHERE id = 2")
            assert await stage.reconcile() == 3
            verified = await stage.verify()
            assert verified.counts == {"public.child": (1, 1), "public.parent": (1, 1)}
            assert [kept async for kept in stage.undo()] == []
        assert target.rows("SELECT * FROM parent") == []


@pytest.mark.parametrize("columns", [("rowid",), ("RowId", "_rowid_"), ("rowid", "oid")])
async def test_a_table_without_a_key_arrives_whatever_its_columns_are_called(
    tmp_path: Path, columns: tuple[str, ...]
) -> None:
    source, target, plan = without_key(tmp_path, columns)
    async with opened(plan, tmp_path, source, target) as stage:
        assert await moved(stage)
        verified = await stage.verify()
    assert verified.counts == {"rows": (5_005, 5_005)}
    assert target.rows("SELECT count(*) FROM rows") == [(5_005,)]


async def test_a_table_whose_rows_nothing_tells_apart_stops_the_move(tmp_path: Path) -> None:
    source, target, plan = without_key(tmp_path, ("rowid", "oid", "_rowid_"))
    async with opened(plan, tmp_path, source, target) as stage:
        first, second = await stage.check()
        assert {first.outcome, second.outcome} == {Outcome.FAIL}
        with pytest.raises(MoveFailed, match="give it a key"):
            await stage.run()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_key_that_is_not_utf_8_is_quarantined_and_the_others_arrive(
    kind: str, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHUNK_ROWS", 2)
    source = Side(f"sqlite:///{tmp_path}/here.db")
    with databases.new() as url:
        target = Side(url if kind == "postgres" else f"sqlite:///{tmp_path}/there.db")
        for side in (source, target):
            side.run("CREATE TABLE notes (id VARCHAR(9) PRIMARY KEY NOT NULL, text VARCHAR(9))")
        source.run(
            "INSERT INTO notes VALUES ('a', 'a'), (CAST(x'62ff' AS TEXT), 'b'), ('ç', 'c'), "
            "(CAST(x'c4ff' AS TEXT), 'd'), (CAST(x'c5ff' AS TEXT), 'e')"
        )
        notes = TablePlan(
            source="notes",
            target=target.name("notes"),
            key=("id",),
            columns={"id": "id", "text": "text"},
        )
        plan = plan_of(source, target).model_copy(update={"tables": (notes,)})
        async with opened(plan, tmp_path, source, target) as stage:
            assert not await moved(stage)
        assert target.rows("SELECT id FROM notes ORDER BY id") == [("a",), ("ç",)]
        lines = (tmp_path / "plan.quarantine.jsonl").read_text().splitlines()
        assert {json.loads(line)["reason"] for line in lines} == {
            "id is not valid UTF-8 at character 2",
            "id is not valid UTF-8 at character 1",
        }
        if target.is_sqlite:
            target.run("INSERT INTO notes VALUES (CAST(x'62ff' AS TEXT), 'b')")
        async with opened(plan, tmp_path, source, target) as stage:
            assert [kept async for kept in stage.undo()] == []
        assert target.rows("SELECT id FROM notes") == []


async def test_large_values_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    side = Side(f"sqlite:///{tmp_path}/large.db")
    side.run(
        "CREATE TABLE blobs (id INTEGER PRIMARY KEY, bytes BLOB); WITH RECURSIVE n (n) AS "
        "(SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 12) "
        f"INSERT INTO blobs SELECT n, zeroblob({CHUNK_BYTES // 2}) FROM n"
    )
    async with SqliteTables(parse_url(side.url), "p") as tables:
        (table,) = (await tables.catalog()).tables
        selection = Selection(table, ("id", "bytes"), ("id",), ())
        sizes = [len(chunk.rows) async for chunk in tables.read(selection)]
    assert sizes == [2] * 6


async def test_rows_that_are_counted_and_not_read_are_a_difference(tmp_path: Path) -> None:
    source, target, plan = without_key(tmp_path, ("id", "n"))
    (table,) = plan.tables
    plan = plan.model_copy(update={"tables": (table.model_copy(update={"key": ("id",)}),)})
    async with opened(plan, tmp_path, source, target) as stage:
        verified = await stage.verify()
    assert verified.counts == {"rows": (5_000, 0)}
    messages = [each.message for each in verified.differences if each.key is None]
    assert "5000 rows were read, where 5005 are counted" in messages


def without_key(folder: Path, columns: tuple[str, ...]) -> tuple[Side, Side, Plan]:
    """Return two databases with a table without a key, and a plan that moves its rows.

    There are a few more than are read at once, each with 1 in all columns.
    """
    source, target = (Side(f"sqlite:///{folder}/{place}.db") for place in ("here", "there"))
    for side in (source, target):
        side.run(f"CREATE TABLE rows ({', '.join(f'{name} INTEGER' for name in columns)})")
    source.run(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
        f"WHERE n < 5005) INSERT INTO rows SELECT {', '.join('1' for _ in columns)} FROM numbers"
    )
    rows = TablePlan(source="rows", target="rows", key=(), columns={name: name for name in columns})
    ends = [EndPlan(address=f"sql:{side.url}") for side in (source, target)]
    return source, target, Plan(name="p", source=ends[0], target=ends[1], tables=(rows,))
