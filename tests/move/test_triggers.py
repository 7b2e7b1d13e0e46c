"""Triggers of a target fire for all but rows that arrive, and are then as they were."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url
from tests.move.two_databases import Side, TwoDatabases

from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.base import Chunk, Selection
from amphibase.move.tables.postgres import PostgresTables
from amphibase.move.tables.sqlite import SqliteTables
from amphibase.move.tables.triggers import restore_triggers, triggers_off

TABLE = TableName("public", "t")
NAMES = ("fires", "always", "replica", "deferred", "never")
SCHEMA = """
CREATE TABLE t (n int); CREATE TABLE log (n int);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO log VALUES (new.n); RETURN new; END';
CREATE TRIGGER fires AFTER INSERT ON t FOR EACH ROW
    WHEN (new.n IS DISTINCT FROM 7 OR ' FOR EACH ROW WHEN (' = '') EXECUTE FUNCTION log('"');
CREATE TRIGGER always AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER replica AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (new.n < 3) EXECUTE FUNCTION log();
CREATE TRIGGER never AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
ALTER TABLE t ENABLE ALWAYS TRIGGER always; ALTER TABLE t ENABLE REPLICA TRIGGER replica;
ALTER TABLE t DISABLE TRIGGER never;
"""


@pytest.fixture
def target(two_databases: TwoDatabases) -> Side:
    two_databases.target.run(SCHEMA)
    return two_databases.target


@asynccontextmanager
async def off(
    side: Side, journal: Journal, names: Sequence[str] = NAMES, url: URL | None = None
) -> AsyncIterator[PostgresTables]:
    """Let triggers of `t` skip what is written by the tables that are yielded."""
    url = url or side.url
    async with (
        PostgresTables(url, "tests") as tables,
        triggers_off(url, tables, journal, {TABLE: names}),
    ):
        yield tables


def definitions(side: Side) -> set[tuple[str, str, str]]:
    query = "SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger"
    return set(side.rows(f"{query} WHERE NOT tgisinternal"))


@pytest.mark.parametrize("is_killed", [False, True], ids=["ended", "killed"])
async def test_triggers_skip_what_a_move_writes_and_fire_for_everybody_else(
    target: Side, two_databases: TwoDatabases, is_killed: bool
) -> None:
    two_databases.source.run("CREATE TABLE t (n int)")
    (pair,) = await two_databases.pairs("t")
    before = definitions(target)
    assert len({state for _, state, _ in before}) == 4
    skipping = off(target, two_databases.journal)
    tables = await skipping.__aenter__()
    await tables.insert(pair.target, Chunk([("1",)], ()))
    await tables.upsert(pair.target, [("2",)])
    assert target.rows("SELECT * FROM log") == []
    target.run("DROP ROLE IF EXISTS caller; CREATE ROLE caller; GRANT INSERT ON t, log TO caller")
    target.run("SET SESSION AUTHORIZATION caller; SET amphibase.move = 'on'")
    target.run("INSERT INTO t VALUES (3)")  # that setting is the move's role's alone
    target.run("RESET SESSION AUTHORIZATION; RESET amphibase.move; INSERT INTO t VALUES (4)")
    assert target.rows("SELECT * FROM log") == [(3,), (3,), (4,), (4,)]
    if is_killed:
        await restore_triggers(target.url, two_databases.journal)
    else:
        await skipping.__aexit__(None, None, None)
    assert definitions(target) == before


async def test_a_run_after_a_kill_knows_the_triggers_as_they_were_before(
    target: Side, two_databases: TwoDatabases
) -> None:
    before = definitions(target)
    killed = off(target, two_databases.journal)
    await killed.__aenter__()
    async with off(target, two_databases.journal):
        assert definitions(target) != before
    assert definitions(target) == before


async def test_a_trigger_that_another_move_has_is_named(
    target: Side, two_databases: TwoDatabases, tmp_path: Path
) -> None:
    async with off(target, two_databases.journal, ["fires"]):
        with (
            Journal(tmp_path / "other.toml") as journal,
            pytest.raises(MoveFailed, match=r"Another move .* has the trigger fires of public\.t"),
        ):
            async with off(target, journal, ["fires"]):
                pass


async def test_a_trigger_of_a_table_of_another_role_is_named(
    target: Side, two_databases: TwoDatabases
) -> None:
    target.run("DROP ROLE IF EXISTS mover; CREATE ROLE mover LOGIN PASSWORD 'secret'")
    url = target.url.set(username="mover", password="secret")
    with pytest.raises(MoveFailed, match=r"public\.t of the target .* its trigger fires cannot"):
        async with off(target, two_databases.journal, ["fires"], url):
            pass
    assert list(two_databases.journal.entries("trigger off")) == []


LOGGED = """
CREATE SCHEMA amphibase; CREATE TABLE amphibase.changes (table_name text, operation text);
CREATE FUNCTION amphibase.log_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER amphibase_log_change AFTER INSERT ON t
    FOR EACH ROW EXECUTE FUNCTION amphibase.log_change('t', 'n');
CREATE TRIGGER amphibase_reject_changes BEFORE UPDATE ON t
    FOR EACH ROW EXECUTE FUNCTION amphibase.log_change();
"""


async def test_the_log_of_changes_says_that_some_are_missing(
    target: Side, two_databases: TwoDatabases
) -> None:
    target.run(LOGGED)
    async with off(target, two_databases.journal, ["amphibase_log_change"]):
        pass
    assert target.rows("SELECT * FROM amphibase.changes") == [("t", "TRUNCATE")]
    target.run("DROP ROLE IF EXISTS mover; CREATE ROLE mover LOGIN PASSWORD 'secret'")
    target.run("GRANT USAGE ON SCHEMA amphibase TO mover; ALTER TABLE t OWNER TO mover")
    before, url = definitions(target), target.url.set(username="mover", password="secret")
    with pytest.raises(MoveFailed, match=r"may not write to amphibase\.changes"):
        async with off(target, two_databases.journal, ["amphibase_log_change"], url):
            pass
    assert definitions(target) == before


async def test_the_trigger_that_holds_clients_to_the_rules_is_never_off(
    target: Side, two_databases: TwoDatabases
) -> None:
    two_databases.source.run("CREATE TABLE t (n int)")
    target.run(LOGGED)
    (pair,) = await two_databases.pairs("t")
    assert set(pair.target.table.triggers) == {*NAMES, "amphibase_log_change"}


SQLITE = TableName(None, "t")
SQLITE_SCHEMA = """
CREATE TABLE t (n int); CREATE TABLE log (n text);
CREATE TRIGGER IF NOT EXISTS "a ""b"" ;--" AFTER INSERT ON t
    WHEN new.n > 0 BEGIN INSERT INTO log VALUES ('it''s; "END";'); END;
CREATE TRIGGER second AFTER INSERT ON T BEGIN INSERT INTO log VALUES (new.n); END;
CREATE TABLE amphibase_changes (table_name text, operation text);
CREATE TRIGGER amphibase_log_change_insert_t AFTER INSERT ON t
    BEGIN INSERT INTO amphibase_changes VALUES ('t', 'INSERT'); END;
CREATE TRIGGER stays AFTER DELETE ON t BEGIN DELETE FROM log; END;
"""
SQLITE_NAMES = ('a "b" ;--', "second", "amphibase_log_change_insert_t")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A SQLite database with triggers, `app.db` in the test's folder."""
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as connection:
        connection.executescript(SQLITE_SCHEMA)
        yield connection


def created(file: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))


async def test_triggers_of_sqlite_skip_what_a_move_writes_and_are_there_for_everybody_else(
    file: sqlite3.Connection, tmp_path: Path
) -> None:
    url, before = make_url(f"sqlite:///{tmp_path}/app.db"), created(file)
    with Journal(tmp_path / "plan.toml") as journal:
        async with SqliteTables(url, "tests") as tables:
            (catalog,) = [each for each in (await tables.catalog()).tables if each.name == SQLITE]
            selection = Selection(catalog, ("n",), (), ())
            async with triggers_off(url, tables, journal, {SQLITE: SQLITE_NAMES}):
                await tables.insert(selection, Chunk([("1",)], ()))
                assert created(file) == before
                assert file.execute("SELECT count(*) FROM log").fetchone() == (0,)
                file.execute("INSERT INTO t VALUES (2)")
                assert file.execute("SELECT count(*) FROM log").fetchone() == (2,)
            await tables.insert(selection, Chunk([("3",)], ()))
        await restore_triggers(url, journal)  # once more changes nothing
    assert file.execute("SELECT count(*) FROM log").fetchone() == (4,)
    logged = file.execute("SELECT * FROM amphibase_changes").fetchall()
    assert logged == [("t", "INSERT"), ("t", "TRUNCATE"), ("t", "INSERT")]


async def test_the_log_of_sqlite_says_that_changes_of_a_killed_run_are_missing(
    file: sqlite3.Connection, tmp_path: Path
) -> None:
    url = make_url(f"sqlite:///{tmp_path}/app.db")
    with Journal(tmp_path / "plan.toml") as journal:
        tables = SqliteTables(url, "tests")
        killed = triggers_off(url, tables, journal, {SQLITE: SQLITE_NAMES})
        await killed.__aenter__()
        await restore_triggers(url, journal)
    assert file.execute("SELECT * FROM amphibase_changes").fetchall() == [("t", "TRUNCATE")]
