"""Files from one side to another, with all that is known of them."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.move.accounts import project_end, sql_end
from tests.move.files import FILES, STRANGE, ProjectStore, SqlStore, TestFile, moved, moving

from amphibase.errors import Unavailable
from amphibase.move.endpoints import Role
from amphibase.move.stage import Outcome
from amphibase.testing.supabase import LocalSupabase


@pytest.fixture
def sql(prepared_sqlite: Path, tmp_path: Path) -> SqlStore:
    """A SQLite database with a store of bytes."""
    shutil.copy(prepared_sqlite, tmp_path / "app.db")
    return SqlStore(f"sqlite:///{tmp_path}/app.db", tmp_path / "blobs")


@pytest.fixture
def project(supabase: LocalSupabase) -> ProjectStore:
    """The Storage of a project."""
    return ProjectStore(supabase)


@pytest.mark.parametrize("has_database", [True, False], ids=["with database", "by API"])
async def test_files_go_to_a_project_and_come_back_as_they_were(
    has_database: bool,
    prepared_url: str,
    project: ProjectStore,
    supabase: LocalSupabase,
    prepared_sqlite: Path,
    tmp_path: Path,
) -> None:
    sql = SqlStore(prepared_url, tmp_path / "blobs")
    await sql.add(FILES)
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = project_end(Role.TARGET, supabase, has_database=has_database)
    verified = await moved(source, target, tmp_path)
    assert verified.differences == []
    assert bool(verified.unverified) is not has_database
    assert await project.read() == FILES
    assert await project.bucket() == await sql.bucket()

    back = SqlStore(f"sqlite:///{tmp_path}/back.db", tmp_path / "back")
    shutil.copy(prepared_sqlite, tmp_path / "back.db")
    (tmp_path / "journal").mkdir()
    verified = await moved(
        project_end(Role.SOURCE, supabase, has_database=has_database),
        sql_end(Role.TARGET, back.url, back.files),
        tmp_path / "journal",
    )
    assert verified.differences == []
    there = await back.read()
    if has_database:
        assert there == FILES
    assert {path: file.content for path, file in there.items()} == {
        path: file.content for path, file in FILES.items()
    }
    assert await back.bucket() == await sql.bucket()


async def test_a_name_that_storage_does_not_take_is_the_same_path_for_the_application(
    sql: SqlStore, project: ProjectStore, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await sql.add({STRANGE: TestFile(b"strange")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    verified = await moved(source, project_end(Role.TARGET, supabase), tmp_path)
    assert verified.differences == []
    assert [*await project.read()] == ["Gr=C3=B6=C3=9Fe/=EF=AC=81le=3DC3.txt"]


async def test_a_second_run_copies_what_changed_and_deletes_what_is_gone(
    sql: SqlStore, project: ProjectStore, supabase: LocalSupabase, tmp_path: Path
) -> None:
    await project.add({"a": TestFile(b"first"), "b": TestFile(b"second"), "c": TestFile(b"third")})
    source = project_end(Role.SOURCE, supabase)
    target = sql_end(Role.TARGET, sql.url, sql.files)
    await moved(source, target, tmp_path)
    await project.add({"a": TestFile(b"changed"), "d": TestFile(b"new")})
    async with project._http() as http:
        (await http.delete("/object/pictures/b")).raise_for_status()
    async with moving(source, target, tmp_path) as stage:
        await stage.run()
        named = [(each.key, each.message) for each in (await stage.verify()).differences]
        assert ("b", "is gone from the source") in named
        assert await stage.reconcile() == 2
        assert await stage.reconcile() == 0
        assert (await stage.verify()).differences == []
    contents = {path: file.content for path, file in (await sql.read()).items()}
    assert contents == {"a": b"changed", "c": b"third", "d": b"new"}
    assert sql.blobs == 3


@pytest.fixture
def other(prepared_sqlite: Path, tmp_path: Path) -> SqlStore:
    """Another SQL database with a store of bytes."""
    shutil.copy(prepared_sqlite, tmp_path / "other.db")
    return SqlStore(f"sqlite:///{tmp_path}/other.db", tmp_path / "other")


async def test_files_that_were_there_before_stay_and_those_changed_since_are_not_undone(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a"), "b": TestFile(b"b"), "c": TestFile(b"c")})
    await other.add({"a": TestFile(b"was there")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = sql_end(Role.TARGET, other.url, other.files)
    async with moving(source, target, tmp_path) as stage:
        (failed,) = [each for each in await stage.check() if each.outcome is Outcome.FAIL]
        assert "merge = true" in failed.message
    assert (await moved(source, target, tmp_path, merge=True)).differences == []
    contents = {path: file.content for path, file in (await other.read()).items()}
    assert contents == {"a": b"was there", "b": b"b", "c": b"c"}
    await other.add({"b": TestFile(b"changed")})
    async with moving(source, target, tmp_path, merge=True) as stage:
        kept = [(each.key, each.reason) async for each in stage.undo()]
    assert kept == [("b", "changed since")]
    contents = {path: file.content for path, file in (await other.read()).items()}
    assert contents == {"a": b"was there", "b": b"changed"}


async def test_a_file_whose_bytes_are_lost_or_spoilt_is_named(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a"), "lost": TestFile(b"lost")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = sql_end(Role.TARGET, other.url, other.files)
    sql.blob_of(b"lost").unlink()
    assert (await moved(source, target, tmp_path)).differences == []
    assert "lost" in (tmp_path / "plan.quarantine.jsonl").read_text()
    other.blob_of(b"a").write_bytes(b"b")
    async with moving(source, target, tmp_path) as stage:
        (difference,) = (await stage.verify()).differences
    assert (difference.key, difference.message) == ("a", "differs: bytes")


async def test_what_is_on_the_target_alone_and_a_buckets_settings_are_differences(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = sql_end(Role.TARGET, other.url, other.files)
    assert (await moved(source, target, tmp_path)).differences == []
    await other.add({"added": TestFile(b"added")})
    await sql.set_bucket(public=False, file_size_limit=1_000_000)
    async with moving(source, target, tmp_path) as stage:
        named = {(each.key, each.message) for each in (await stage.verify()).differences}
        assert named == {
            ("added", "is on the target alone"),
            (None, "the bucket differs: public, file_size_limit"),
        }
        assert await stage.reconcile() == 1
    assert await other.bucket() == await sql.bucket() == (False, 1_000_000, ("*/*",))
    async with moving(source, target, tmp_path, overwrite=True) as stage:
        assert await stage.reconcile() == 1
        assert (await stage.verify()).differences == []
    assert list(await other.read()) == ["a"]


async def test_a_run_that_overwrites_leaves_the_files_of_a_bucket_that_had_some_before(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a")})
    await other.add({"before": TestFile(b"before")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = sql_end(Role.TARGET, other.url, other.files)
    await moved(source, target, tmp_path, merge=True)
    async with moving(source, target, tmp_path, overwrite=True, merge=True) as stage:
        assert await stage.reconcile() == 0
    assert sorted(await other.read()) == ["a", "before"]


def run(store: SqlStore, statement: str) -> None:
    """Run a statement in a SQLite database."""
    with closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(statement)


async def test_a_file_that_a_verification_finds_different_is_written_by_the_next_run(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a"), "old": TestFile(b"old")})
    run(sql, "UPDATE storage_objects SET created_at = NULL, updated_at = NULL WHERE name = 'old'")
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = sql_end(Role.TARGET, other.url, other.files)
    await moved(source, target, tmp_path)
    other.blob_of(b"a").write_bytes(b"b")
    times = (
        "created_at = datetime(created_at, '+1 day'), updated_at = datetime(updated_at, '-1 day')"
    )
    run(other, f"UPDATE storage_objects SET {times} WHERE name = 'a'")
    async with moving(source, target, tmp_path) as stage:
        (difference,) = (await stage.verify()).differences
        assert difference.message == "differs: created_at, updated_at, bytes"
        assert await stage.reconcile() == 1
        assert (await stage.verify()).differences == []
        assert await stage.reconcile() == 0


async def test_a_file_whose_metadata_were_changed_since_is_not_undone(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a"), "b": TestFile(b"b")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = sql_end(Role.TARGET, other.url, other.files)
    await moved(source, target, tmp_path)
    await other.add({"b": TestFile(b"b", metadata={"note": "of the target"})})
    async with moving(source, target, tmp_path) as stage:
        kept = [(each.key, each.reason) async for each in stage.undo()]
    assert kept == [("b", "changed since"), ("pictures", "holds files")]


async def test_an_undo_that_cannot_reach_the_store_of_the_bytes_deletes_nothing(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    await moved(source, sql_end(Role.TARGET, other.url, other.files), tmp_path)
    (tmp_path / "no folder").touch()
    elsewhere = sql_end(Role.TARGET, other.url, f"file://{tmp_path}/no folder")
    async with moving(source, elsewhere, tmp_path) as stage:
        with pytest.raises(Unavailable):
            [kept async for kept in stage.undo()]
    assert list(await other.read()) == ["a"]
    async with moving(source, sql_end(Role.TARGET, other.url, other.files), tmp_path) as stage:
        assert [kept async for kept in stage.undo()] == []
    assert [path for path in other.folder.rglob("*") if path.is_file()] == []


async def test_a_file_whose_bytes_are_lost_is_not_undone(
    sql: SqlStore, other: SqlStore, tmp_path: Path
) -> None:
    await sql.add({"a": TestFile(b"a"), "b": TestFile(b"b")})
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = sql_end(Role.TARGET, other.url, other.files)
    await moved(source, target, tmp_path)
    run(other, "UPDATE storage_objects SET metadata = json_set(metadata, '$.eTag', 'other')")
    other.blob_of(b"b").unlink()
    async with moving(source, target, tmp_path) as stage:
        kept = [(each.key, each.reason) async for each in stage.undo()]
    assert kept == [("b", "changed since"), ("pictures", "holds files")]


@pytest.mark.parametrize("has_database", [True, False], ids=["with database", "by API"])
async def test_a_bucket_without_limits_has_none_on_the_target_and_follows_the_source(
    has_database: bool,
    sql: SqlStore,
    project: ProjectStore,
    supabase: LocalSupabase,
    tmp_path: Path,
) -> None:
    await sql.add({"a": TestFile(b"a")})
    await sql.set_bucket(public=False, file_size_limit=None, allowed_types=())
    source = sql_end(Role.SOURCE, sql.url, sql.files)
    target = project_end(Role.TARGET, supabase, has_database=has_database)
    assert (await moved(source, target, tmp_path)).differences == []
    assert await project.bucket() == (False, None, ())
    await sql.set_bucket(public=True, file_size_limit=5, allowed_types=("text/plain",))
    async with moving(source, target, tmp_path) as stage:
        assert await stage.reconcile() == 1
        await sql.set_bucket(public=False, file_size_limit=None, allowed_types=())
        assert await stage.reconcile() == 1
        assert (await stage.verify()).differences == []
    assert await project.bucket() == (False, None, ())
