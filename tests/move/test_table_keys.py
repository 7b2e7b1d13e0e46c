"""Rows of tables whose keys, names or parents make it hard to tell which they are."""

from pathlib import Path

import pytest
from tests.move.tables import Side, moved, opened, plan_of
from tests.servers import Databases

from amphibase.errors import MoveFailed
from amphibase.move.plan import EndPlan, Plan, TablePlan
from amphibase.move.stage import Outcome


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
