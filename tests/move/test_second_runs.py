"""A plan that was run to its end, and is run again when the target is in use."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.conftest import prepared_database
from tests.move.application import contents, fill
from tests.move.moving import MoveFolder
from tests.move.test_changing_source import Sides, connected, seats, sides

from amphibase.move.planning import plan_move
from amphibase.move.report import RunOutcome
from amphibase.move.run import ChecksFailed, Move

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
