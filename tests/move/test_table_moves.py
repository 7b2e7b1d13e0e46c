"""Moving tables: copying, comparing, undoing, on a source and a target of each kind."""

import json
import sqlite3
from pathlib import Path
from uuid import UUID, uuid5

import psycopg
import pytest
from tests.move.tables import COLUMNS, Side, moved, opened, plan_of
from tests.servers import Databases

from amphibase.database.url import parse_url
from amphibase.move.catalog import TableName
from amphibase.move.plan import EndPlan, MappingPlan, Plan, TablePlan
from amphibase.move.stage import Outcome
from amphibase.move.tables.constraints import Constraints


async def test_tables_with_cycles_self_references_and_no_keys_arrive_and_change_nothing_again(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    async with opened(plan_of(source, target), tmp_path, source, target) as stage:
        assert await moved(stage)
        assert source.content() == target.content()
        await stage.run()
        assert await stage.reconcile() == 0
        await stage.finish()
    assert source.content() == target.content()


async def test_what_the_source_changes_during_a_move_is_changed_on_the_target(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    async with opened(plan_of(source, target), tmp_path, source, target) as stage:
        await stage.run()
        source.run(
            """
            DELETE FROM comments WHERE post = 10; DELETE FROM posts WHERE id = 10;
            INSERT INTO people VALUES (4, 'd@x', NULL, 1); UPDATE people SET boss = 4 WHERE id = 1;
            UPDATE posts SET title = 'changed', author = 4 WHERE id = 11;
            INSERT INTO visits VALUES ('/b');
            UPDATE people SET email = 'x' WHERE id = 2;
            UPDATE people SET email = 'b@x' WHERE id = 3;
            UPDATE people SET email = 'c@x' WHERE id = 2;
            """
        )
        assert await stage.reconcile() > 0
        assert await moved(stage)
    assert source.content() == target.content()


async def test_a_difference_names_the_row_and_not_its_values(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    async with opened(plan_of(source, target), tmp_path, source, target) as stage:
        assert await moved(stage)
        target.run(
            """
            UPDATE posts SET title = 'other' WHERE id = 11; DELETE FROM comments WHERE number = 2;
            INSERT INTO people VALUES (9, 'z@x', NULL, NULL); INSERT INTO visits VALUES ('/z');
            """
        )
        verified = await stage.verify()
        found = {(each.subject, each.key, each.message) for each in verified.differences}
        assert found == {
            (source.name("posts"), "11", "differs: title"),
            (source.name("comments"), "10, 2", "is missing on the target"),
            (source.name("people"), "9", "is on the target alone"),
            (
                source.name("visits"),
                None,
                "the rows differ; the table has no key by which to name them",
            ),
        }


async def test_undo_keeps_what_was_changed_or_added_since_and_what_it_needs(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    async with opened(plan_of(source, target), tmp_path, source, target) as stage:
        assert await moved(stage)
        target.run(
            """
            INSERT INTO comments VALUES (10, 7, 'new');
            UPDATE people SET email = 'new@x' WHERE id = 2;
            """
        )
        kept = {(each.subject, each.key) async for each in stage.undo()}
    people, posts, comments = (source.name(name) for name in ("people", "posts", "comments"))
    assert kept == {(comments, "10, 7"), (posts, "10"), (people, "1"), (people, "2")}
    content = target.content()
    assert content["comments"] == [(10, 7, "new")]
    assert content["posts"] == [(10, 1, "first")]
    assert [row[:2] for row in content["people"]] == [(1, "a@x"), (2, "new@x")]
    assert content["visits"] == []


async def test_undo_of_an_untouched_move_leaves_nothing(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    async with opened(plan_of(source, target), tmp_path, source, target) as stage:
        assert await moved(stage)
        assert [each async for each in stage.undo()] == []
    assert target.content() == {name: [] for name in COLUMNS}


async def test_undo_keeps_rows_to_which_later_rows_of_the_same_table_refer(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    for side in sides:
        side.run(
            """
            CREATE TABLE replies (
                id INTEGER PRIMARY KEY, parent INTEGER REFERENCES replies (id) ON DELETE CASCADE
            );
            CREATE TABLE nodes (
                id INTEGER PRIMARY KEY,
                parent INTEGER NOT NULL REFERENCES nodes (id) ON DELETE CASCADE
            );
            """
        )
    source.run("INSERT INTO replies VALUES (1, NULL), (2, 1), (3, 2)")
    source.run("INSERT INTO nodes VALUES (1, 1), (2, 1), (3, 2), (4, 3)")
    names = {"id": "id", "parent": "parent"}
    tables = tuple(
        TablePlan(source=source.name(name), target=target.name(name), key=("id",), columns=names)
        for name in ("replies", "nodes")
    )
    plan = plan_of(source, target).model_copy(update={"tables": tables})
    async with opened(plan, tmp_path, source, target) as stage:
        assert await moved(stage)
        target.run("INSERT INTO replies VALUES (100, 2); INSERT INTO nodes VALUES (100, 3)")
        kept = set()
        async for each in stage.undo():
            kept.add((each.subject, each.key))
            # Else each row that is deleted is looked for in the whole table.
            assert target.indexes("replies") == target.indexes("nodes") == 1
        await stage.finish()
        assert target.indexes("replies") == target.indexes("nodes") == 0
        replies, nodes = (source.name(name) for name in ("replies", "nodes"))
        assert kept == {
            *((replies, key) for key in ("2", "100")),
            *((nodes, key) for key in ("1", "2", "3", "100")),
        }
        assert target.rows("SELECT id FROM replies ORDER BY id") == [(2,), (100,)]
        tree = target.rows("SELECT * FROM nodes ORDER BY id")
        assert tree == [(1, 1), (2, 1), (3, 2), (100, 3)]
        target.run("DELETE FROM replies; DELETE FROM nodes")
        assert await moved(stage)
        assert [each async for each in stage.undo()] == []
    assert target.rows("SELECT id FROM replies UNION SELECT id FROM nodes") == []


async def test_a_target_with_rows_fails_the_check_unless_it_is_merged_where_its_rows_stay(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    target.run("INSERT INTO people VALUES (1, 'own@x', NULL, NULL), (7, 'g@x', NULL, NULL)")
    async with opened(plan_of(source, target), tmp_path, source, target) as stage:
        (check,) = await stage.check()
        assert (check.outcome, "merge" in check.message) == (Outcome.FAIL, True)
    plan = plan_of(source, target, merge=True)
    async with opened(plan, tmp_path, source, target) as stage:
        assert not await moved(stage)
        assert [row[:2] for row in target.content()["people"]] == [
            (1, "own@x"),
            (2, "b@x"),
            (3, "c@x"),
            (7, "g@x"),
        ]
        assert [each async for each in stage.undo()] == []
    assert [row[:2] for row in target.content()["people"]] == [(1, "own@x"), (7, "g@x")]


async def test_a_merge_writes_and_deletes_its_own_rows_alone(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    target.run("INSERT INTO people VALUES (7, 'g@x', NULL, NULL)")
    async with opened(plan_of(source, target, merge=True), tmp_path, source, target) as stage:
        assert not await moved(stage)
        target.run("INSERT INTO people VALUES (8, 'own@x', NULL, NULL)")
        source.run("INSERT INTO people VALUES (8, 'h@x', NULL, NULL), (9, 'i@x', NULL, NULL)")
        source.run("DELETE FROM comments WHERE post = 10")
        named = [(each.key, each.message) for each in (await stage.verify()).differences]
        assert ("10, 1", "is on the target alone") in named
        assert await stage.reconcile() == 3
        assert (await stage.verify()).differences == []
        names = [row[:2] for row in target.content()["people"]]
        assert names[3:] == [(7, "g@x"), (8, "own@x"), (9, "i@x")]
        assert [row[:2] for row in target.content()["comments"]] == [(11, 1)]
        source.run("DELETE FROM people WHERE id = 9")
        kept = [(each.key, each.reason) async for each in stage.undo()]
        assert kept == [("9", "gone from the source")]


async def test_rejected_rows_are_quarantined_with_the_reason_and_the_others_arrive(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    source.run("INSERT INTO posts VALUES (12, 2, 'forbidden')")
    if target.is_sqlite:
        target.run(
            "CREATE TRIGGER no BEFORE INSERT ON posts WHEN new.title = 'forbidden' "
            "BEGIN SELECT RAISE(ABORT, 'not this'); END"
        )
    else:
        target.run("ALTER TABLE posts ADD CONSTRAINT this CHECK (title <> 'forbidden')")
    plan = plan_of(source, target)
    firing = {"triggers": {"no": "fire"}}
    plan = plan.model_copy(
        update={"tables": tuple(table.model_copy(update=firing) for table in plan.tables)}
    )
    async with opened(plan, tmp_path, source, target) as stage:
        await stage.run()
        await stage.reconcile()
        assert await stage.reconcile() == 0
        assert (await stage.verify()).differences == []
    (line,) = (tmp_path / "plan.quarantine.jsonl").read_text().splitlines()
    rejected = json.loads(line)
    assert (rejected["key"], rejected["row"]["title"]) == (["12"], "forbidden")
    assert "this" in rejected["reason"]
    assert len(target.content()["posts"]) == 2


async def test_numbers_become_the_same_uuids_everywhere_and_a_table_says_which(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    kind = "CHAR(32)" if target.is_sqlite else "uuid"
    target.run(
        f"""
        DROP TABLE comments; CREATE TABLE drafts (
            id {kind} PRIMARY KEY, author {kind} REFERENCES drafts (id), title VARCHAR(20)
        );
        """
    )
    namespace = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    table = TablePlan(
        source=source.name("posts"),
        target=target.name("drafts"),
        key=("id",),
        columns={"id": "id", "author": "author", "title": "title"},
        ids={"id": "posts", "author": "posts"},
    )
    mapping = MappingPlan(
        source=source.name("posts"), column="id", namespace=str(namespace), table="post_ids"
    )
    source.run("INSERT INTO people VALUES (10, 'j@x', NULL, NULL); UPDATE posts SET author = 10")
    whole = plan_of(source, target)
    plan = whole.model_copy(update={"tables": (table,), "mappings": {"posts": mapping}})
    async with opened(plan, tmp_path, source, target) as stage:
        await moved(stage)
        await stage.finish()
        ids = {old: UUID(str(new)) for old, new in target.rows("SELECT * FROM post_ids")}
        assert ids == {old: uuid5(namespace, old) for old in ("10", "11")}
        drafts = target.rows("SELECT id, author FROM drafts")
        assert {tuple(UUID(str(id)) for id in row) for row in drafts} == {
            (ids["10"], ids["10"]),
            (ids["11"], ids["10"]),
        }
        assert [each async for each in stage.undo()] == []
    assert target.rows("SELECT * FROM drafts") == []
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable)):
        target.rows("SELECT * FROM post_ids")


async def test_a_table_that_only_has_the_name_of_a_mapping_is_left_alone(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    target.run("CREATE TABLE post_ids (number INTEGER PRIMARY KEY)")
    mapping = MappingPlan(
        source=source.name("posts"), column="id", namespace=str(UUID(int=1)), table="post_ids"
    )
    plan = plan_of(source, target).model_copy(update={"mappings": {"posts": mapping}})
    async with opened(plan, tmp_path, source, target) as stage:
        failed = [each.message for each in await stage.check() if each.outcome is Outcome.FAIL]
    assert len(failed) == 1
    assert "post_ids of the target has no columns old_id and new_id" in failed[0]


async def test_tables_that_refer_to_one_another_without_null_arrive_and_check_again(
    sides: tuple[Side, Side], tmp_path: Path
) -> None:
    source, target = sides
    create = """
        CREATE TABLE hens (id INTEGER PRIMARY KEY, egg INTEGER NOT NULL {});
        CREATE TABLE eggs (id INTEGER PRIMARY KEY, hen INTEGER NOT NULL REFERENCES hens (id));
    """
    close = "ALTER TABLE hens ADD CONSTRAINT from_egg FOREIGN KEY (egg) REFERENCES eggs (id);"
    rows = "INSERT INTO hens VALUES (1, 2), (2, 1); INSERT INTO eggs VALUES (1, 1), (2, 2);"
    for side in sides:
        inserted = rows if side is source else ""
        if side.is_sqlite:
            side.run(create.format("REFERENCES eggs (id)") + inserted)
        else:
            side.run(create.format("") + inserted + close)
    tables = tuple(
        TablePlan(
            source=source.name(name),
            target=target.name(name),
            key=("id",),
            columns={"id": "id", column: column},
        )
        for name, column in (("hens", "egg"), ("eggs", "hen"))
    )
    plan = plan_of(source, target).model_copy(update={"tables": tables})
    async with opened(plan, tmp_path, source, target) as stage:
        assert await moved(stage)
    assert target.rows("SELECT * FROM hens ORDER BY id") == [(1, 2), (2, 1)]
    assert target.rows("SELECT * FROM eggs ORDER BY id") == [(1, 1), (2, 2)]
    if not target.is_sqlite:
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            target.run("UPDATE hens SET egg = 7")


async def test_uuids_with_hyphens_arrive_without_where_the_target_has_none(tmp_path: Path) -> None:
    source, target = (Side(f"sqlite:///{tmp_path}/{place}.db") for place in ("here", "there"))
    source.run("CREATE TABLE notes (id CHAR(36) PRIMARY KEY, text TEXT)")
    source.run(f"INSERT INTO notes VALUES ('{UUID(int=1)}', 'a'), ('{UUID(int=2)}', 'b')")
    target.run("CREATE TABLE notes (id CHAR(32) PRIMARY KEY, text TEXT)")
    notes = TablePlan(
        source="notes", target="notes", key=("id",), columns={"id": "id", "text": "text"}
    )
    ends = [EndPlan(address=f"sql:{side.url}") for side in (source, target)]
    plan = Plan(name="p", source=ends[0], target=ends[1], tables=(notes,))
    async with opened(plan, tmp_path, source, target) as stage:
        assert await moved(stage)
        rows = target.rows("SELECT id, text FROM notes ORDER BY id")
        assert rows == [(UUID(int=1).hex, "a"), (UUID(int=2).hex, "b")]
        assert [kept async for kept in stage.undo()] == []
    assert target.rows("SELECT * FROM notes") == []


CIRCLE = """
    CREATE TABLE a (id INTEGER PRIMARY KEY, b INTEGER NOT NULL);
    CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES a);
"""


async def test_foreign_keys_of_a_cycle_that_a_kill_left_off_are_put_back_by_the_next_run(
    databases: Databases, tmp_path: Path
) -> None:
    with databases.new() as url:
        source, target = Side(f"sqlite:///{tmp_path}/source.db"), Side(url)
        for side in (source, target):
            side.run(CIRCLE)
        source.run("INSERT INTO a VALUES (1, 2); INSERT INTO b VALUES (2, 1)")
        target.run("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b")
        plan = plan_of(source, target).model_copy(
            update={
                "tables": tuple(
                    TablePlan(
                        source=name,
                        target=f"public.{name}",
                        key=("id",),
                        columns={"id": "id", other: other},
                    )
                    for name, other in ("ab", "ba")
                )
            }
        )
        keys = "SELECT conname, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
        before = target.rows(f"{keys} ORDER BY 1")
        async with opened(plan, tmp_path, source, target) as stage:
            constraints = Constraints(parse_url(url), stage._context.journal)
            names = [TableName("public", name) for name in "ab"]
            await constraints.take_off(names, large=())
        assert target.rows(keys) == []
        async with opened(plan, tmp_path, source, target) as stage:
            assert await moved(stage)
        assert target.rows(f"{keys} ORDER BY 1") == before
