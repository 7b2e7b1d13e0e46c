"""A plan that was run to its end, and is run again when the target is in use."""

import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url
from tests.conftest import prepared_database
from tests.move.application import contents, fill
from tests.move.moving import MoveFolder
from tests.move.test_changing_source import Sides, connected, seats, sides

from amphibase.move.catalog import TableName
from amphibase.move.freezers import build_freezer
from amphibase.move.planning import plan_move
from amphibase.move.report import RunOutcome
from amphibase.move.run import ChecksFailed, Move
from amphibase.move.stage import Outcome

__all__ = ["sides"]


async def run(plan: Path, **options: Any) -> RunOutcome:
    async with Move(plan) as move:
        return (await move.run(**options)).outcome


def execute(url: str, *statements: str) -> None:
    with connected(url) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO seats VALUES (100, 'of the target')",
        "UPDATE seats SET label = 'of the target' WHERE id = 1",
        "DELETE FROM seats WHERE id = 1",
    ],
)
async def test_what_the_target_has_written_since_a_verified_run_is_not_overwritten(
    sides: Sides, statement: str
) -> None:
    await plan_move("sql", "sql", sides.plan)
    assert await run(sides.plan) is RunOutcome.VERIFIED
    execute(sides.target, statement)
    there = seats(sides.target)
    with pytest.raises(ChecksFailed, match=r"seats: .* --overwrite"):
        await run(sides.plan)
    assert seats(sides.target) == there
    assert await run(sides.plan, overwrite=True) is RunOutcome.VERIFIED
    assert seats(sides.target) == seats(sides.source)


async def test_what_the_source_has_written_since_a_verified_run_arrives_with_another(
    sides: Sides,
) -> None:
    await plan_move("sql", "sql", sides.plan)
    assert await run(sides.plan) is RunOutcome.VERIFIED
    execute(sides.source, "DELETE FROM seats WHERE id = 1", "INSERT INTO seats VALUES (100, 'a')")
    assert await run(sides.plan) is RunOutcome.VERIFIED
    assert seats(sides.target) == seats(sides.source)


async def test_a_row_that_a_table_beside_the_plan_refers_to_is_not_deleted_with_that(
    sides: Sides,
) -> None:
    await plan_move("sql", "sql", sides.plan)
    execute(
        sides.target,
        "CREATE TABLE tickets (seat integer REFERENCES seats ON DELETE CASCADE)",
    )
    assert await run(sides.plan) is RunOutcome.VERIFIED
    execute(sides.target, "INSERT INTO tickets VALUES (1)")
    execute(sides.source, "DELETE FROM seats WHERE id IN (1, 2)")
    assert await run(sides.plan) is RunOutcome.FAILED
    assert [row for row in seats(sides.target) if row[0] in (1, 2)] == [(1, "one")]
    with connected(sides.target) as connection:
        assert list(connection.execute("SELECT seat FROM tickets")) == [(1,)]


def test_accounts_and_files_that_were_changed_on_the_target_are_not_overwritten(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with (
        prepared_database("sqlite", request, tmp_path) as source,
        prepared_database("postgres", request, tmp_path) as target,
    ):
        folder = MoveFolder(tmp_path, source, target)
        fill(source, folder.source_files)
        folder.plan()
        folder.run()
        with psycopg.connect(target) as connection:
            connection.execute("UPDATE auth.users SET encrypted_password = '$2b$10$changed'")
            connection.execute("UPDATE storage.objects SET metadata = metadata || '{\"eTag\": 1}'")
        there = contents(target)
        done = folder.run(code=1)
        assert "auth.users" in done.stderr
        assert "files of" in done.stderr
        assert contents(target) == there


async def test_looking_at_a_move_does_not_thaw_the_source_and_a_run_does(sides: Sides) -> None:
    await plan_move("sql", "sql", sides.plan)
    async with Move(sides.plan) as move:
        freezer = build_freezer(move._context.source)
        tables = [TableName("public" if "postgres" in sides.source else None, "seats")]
        move._journal.put("freeze", "tables", [list(table) for table in tables])
        await freezer.freeze(tables)  # and here it was killed
    async with Move(sides.plan) as move:
        await move.check()
        await move.verify()
    insert = "INSERT INTO seats VALUES (100, 'new')"
    with pytest.raises((sqlite3.IntegrityError, psycopg.Error)):
        execute(sides.source, insert)
    assert await run(sides.plan) is RunOutcome.VERIFIED
    execute(sides.source, insert)


async def test_a_table_of_a_schema_with_a_dot_that_may_not_be_guarded_is_named(
    sides: Sides,
) -> None:
    if not sides.source.startswith("postgres"):
        pytest.skip("SQLite has no schemas")
    await plan_move("sql", "sql", sides.plan)
    url = make_url(sides.source)
    execute(
        sides.source,
        'CREATE SCHEMA "my.app"',
        'ALTER TABLE seats SET SCHEMA "my.app"',
        "DROP ROLE IF EXISTS amphibase_reader",
        "CREATE ROLE amphibase_reader LOGIN PASSWORD 'pw'",
        f'GRANT CREATE ON DATABASE "{url.database}" TO amphibase_reader',
        'GRANT USAGE ON SCHEMA "my.app" TO amphibase_reader',
        'GRANT SELECT ON "my.app".seats TO amphibase_reader',
    )
    reader = url.set(username="amphibase_reader", password="pw")
    plan = sides.plan.read_text().replace("public.seats", "my.app.seats")
    sides.plan.write_text(plan.replace(f"{url.username}@", "amphibase_reader@"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATABASE_URL", reader.render_as_string(hide_password=False))
        async with Move(sides.plan) as move:
            report = await move.run(freeze=True)
    assert report.unguarded == ["my.app.seats"]


async def test_triggers_of_the_target_do_not_fire_unless_the_plan_lets_them(sides: Sides) -> None:
    if sides.target.startswith("sqlite"):
        body = "BEGIN SELECT RAISE(ABORT, 'fired'); END"
    else:
        execute(
            sides.target,
            "CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''fired''; END'",
        )
        body = "FOR EACH ROW EXECUTE FUNCTION fired()"
    execute(sides.target, f"CREATE TRIGGER mine BEFORE INSERT ON seats {body}")
    plan = await plan_move("sql", "sql", sides.plan)
    assert plan.tables[0].triggers == {"mine": "off"}
    async with Move(sides.plan) as move:
        (check,) = [each for each in await move.check() if "trigger mine" in each.message]
        assert check.outcome is Outcome.PASS
        assert (await move.run()).outcome is RunOutcome.VERIFIED
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException), match="fired"):
        execute(sides.target, "INSERT INTO seats VALUES (100, 'of the target')")
