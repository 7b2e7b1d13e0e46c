"""`amphibase move` on a whole application, as people run it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from filelock import FileLock
from tests.conftest import prepared_database
from tests.move.application import contents, fill, stored_files
from tests.move.moving import MoveFolder


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MoveFolder]:
    """An application on SQLite, and a prepared Postgres that it shall move to."""
    with (
        prepared_database("sqlite", request, tmp_path) as source,
        prepared_database("postgres", request, tmp_path) as target,
    ):
        moved = MoveFolder(tmp_path, source, target)
        fill(source, moved.source_files)
        yield moved


SEATS = """
    CREATE TABLE t_seats (row integer, number integer, label text, PRIMARY KEY (row, number))
"""


@pytest.fixture
def seats(postgres_url: str, tmp_path: Path) -> MoveFolder:
    """One table on SQLite, and the same without rows on a Postgres."""
    folder = MoveFolder(tmp_path, f"sqlite:///{tmp_path}/source.db", postgres_url)
    execute(folder, SEATS)
    execute(folder, "INSERT INTO t_seats VALUES (3, 1, 'a'), (3, 2, 'b'), (7, 1, 'c'), (7, 2, 'd')")
    with psycopg.connect(postgres_url) as connection:
        connection.execute(SEATS)
    return folder


def seats_of(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT * FROM t_seats ORDER BY 1, 2").fetchall()


def execute(folder: MoveFolder, statement: str) -> None:
    with closing(sqlite3.connect(folder.source.removeprefix("sqlite:///"))) as database:
        database.execute(statement)
        database.commit()


def test_an_application_moves_with_accounts_rows_and_files(folder: MoveFolder) -> None:
    folder.plan()
    checked = folder.command("check")
    assert (checked.returncode, "FAIL" in checked.stdout) == (0, False)
    done = folder.run("--progress", "json")
    folder.check_equal()
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (seats,) = [e for e in events if e["task"] == "t_seats" and e["event"] == "finish"]
    assert (seats["done"], seats["unit"]) == (40, "rows")
    ends = {e["task"]: (e["done"], e["total"], e["unit"]) for e in events if e["event"] == "finish"}
    tables = next(e["total"] for e in events if e["task"] == "tables: verify" and e["total"])
    assert ends["tables: verify"] == ends["tables: reconcile"] == (tables, tables, "tables")
    assert ends["files: verify"] == (
        len(stored_files(folder.target, folder.target_files)),
        None,
        "files",
    )
    before = contents(folder.target)
    folder.run()  # a finished plan again
    assert contents(folder.target) == before
    verified = folder.command("verify")
    assert verified.returncode == 0
    report = json.loads((folder.path / "plan.report.json").read_text())
    counts = {each["subject"]: each["source"] for each in report["comparisons"]}
    assert counts["t_seats"] == 40
    assert report["hashes"] == {"argon2id": 5}
    assert folder.password not in "".join(
        path.read_bytes().decode("utf-8", "replace")
        for path in folder.path.glob("plan*")
        if path.is_file()
    )
    assert folder.password not in checked.stdout + verified.stdout + verified.stderr


def test_undo_leaves_the_target_as_it_was_and_the_move_can_be_run_again(
    folder: MoveFolder,
) -> None:
    folder.plan()
    empty = contents(folder.target)
    folder.run()
    folder.undo()
    assert contents(folder.target) == empty
    assert not [path for path in folder.target_files.rglob("*") if path.is_file()]
    folder.run()
    folder.check_equal()


def test_a_move_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    folder: MoveFolder,
) -> None:
    folder.plan()
    for seconds in (0.4, 0.6, 0.8, 1.0):
        folder.run_and_kill(seconds)
    folder.run()
    folder.check_equal()


def test_a_row_that_differs_is_named_with_exit_code_1(seats: MoveFolder) -> None:
    seats.plan()
    seats.run()
    execute(seats, "UPDATE t_seats SET label = 'changed' WHERE row = 3 AND number = 2")
    verified = seats.command("verify")
    assert verified.returncode == 1
    assert "t_seats 3, 2: differs: label" in verified.stderr
    assert "amphibase move run plan.toml --overwrite" in verified.stderr
    assert seats.run("--overwrite").returncode == 0


def test_a_side_that_cannot_be_reached_is_not_verified_with_exit_code_3(
    seats: MoveFolder,
) -> None:
    seats.plan()
    plan = seats.path / "plan.toml"
    plan.write_text(plan.read_text().replace(seats.target.split("/")[-1], "not_there"))
    seats.target = seats.target.rpartition("/")[0] + "/not_there"
    assert seats.command("verify").returncode == 3


def test_wrong_usage_ends_with_exit_code_2(seats: MoveFolder) -> None:
    missing = seats.command("run")
    assert (missing.returncode, "plan.toml: there is no such plan" in missing.stderr) == (2, True)
    wrong = seats.command("plan", "postgresql://db/app", "sql")
    assert (wrong.returncode, "is not an end of a move; write sql for" in wrong.stderr) == (2, True)


def test_a_database_that_is_missing_or_none_is_one_line_and_is_not_created(
    seats: MoveFolder, tmp_path: Path
) -> None:
    (tmp_path / "text.db").write_text("no database" * 100)
    for name, message in (("none.db", "can be opened"), ("text.db", "is not a database")):
        seats.source = f"sqlite:///{tmp_path}/{name}"
        done = seats.command("plan", "sql", "sql", "-o", "other.toml")
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "none.db").exists()


def test_a_target_with_rows_fails_the_check_before_anything_is_written(
    seats: MoveFolder,
) -> None:
    seats.plan()
    with psycopg.connect(seats.target) as connection:
        connection.execute("INSERT INTO t_seats VALUES (9, 9, 'here before')")
    failed = seats.run(code=1)
    assert "t_seats" in failed.stderr
    assert "merge = true" in failed.stderr
    assert seats_of(seats.target) == [(9, 9, "here before")]


def test_a_plan_whose_ends_were_changed_is_not_taken_for_the_one_that_has_begun(
    seats: MoveFolder,
) -> None:
    seats.plan()
    seats.run()
    other = seats.path / "other.db"
    other.write_bytes(Path(seats.source.removeprefix("sqlite:///")).read_bytes())
    plan = seats.path / "plan.toml"
    plan.write_text(plan.read_text().replace(seats.source, f"sqlite:///{other}"))
    seats.source = f"sqlite:///{other}"
    assert "write another plan" in seats.run(code=1).stderr


def test_the_state_of_a_move_is_reported_with_the_users_who_need_a_new_password(
    folder: MoveFolder,
) -> None:
    execute(folder, "UPDATE auth_users SET encrypted_password = 'md5' WHERE email LIKE 'user3%'")
    folder.plan()
    assert "not begun" in folder.command("status").stdout
    folder.run()
    reported = folder.command("status").stdout
    assert "last outcome: verified" in reported
    assert "1 users need a new password:\n  user3@example.com" in reported


def test_two_runs_of_one_plan_exclude_each_other(seats: MoveFolder) -> None:
    seats.plan()
    with FileLock(seats.path / "plan.lock"):
        second = seats.run(code=1)
    assert "another run of plan is under way" in second.stderr


def test_a_rejected_row_is_quarantined_and_fails_the_run_unless_that_is_allowed(
    seats: MoveFolder,
) -> None:
    execute(seats, "UPDATE t_seats SET label = 'a' || char(0) || 'b' WHERE row = 7")
    seats.plan()
    seats.run(code=1)
    lines = (seats.path / "plan.quarantine.jsonl").read_text().splitlines()
    assert {tuple(json.loads(line)["key"]) for line in lines} == {("7", "1"), ("7", "2")}
    assert seats.run("--allow-quarantine").returncode == 0


def test_a_journal_that_is_none_is_named(seats: MoveFolder) -> None:
    seats.plan()
    (seats.path / "plan.journal").write_text("not a database, but a text" * 100)
    for command in ("run", "status"):
        done = seats.command(command)
        assert done.returncode == 2
        assert "plan.journal: cannot be read as the journal" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_mapping_of_a_column_that_the_source_lacks_fails_the_check(seats: MoveFolder) -> None:
    seats.plan()
    with (seats.path / "plan.toml").open("a") as plan:
        plan.write('[mappings.x]\nsource = "t_seats"\ncolumn = "nope"\ntable = "ids"\n')
        plan.write('namespace = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"\n')
    checked = seats.command("check")
    assert checked.returncode == 1
    assert "the source has no column nope" in checked.stdout
