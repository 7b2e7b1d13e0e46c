"""Triggers of a target do not fire for rows that arrive, and are then as they were."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tests.move.two_databases import Side, TwoDatabases

from amphibase.errors import MoveFailed
from amphibase.move.catalog import TableName
from amphibase.move.journal import Journal
from amphibase.move.tables.triggers import restore_triggers, triggers_off

TABLE = TableName("public", "t")
NAMES = ("fires", "always", "replica", "never")
SCHEMA = """
CREATE TABLE t (n int); CREATE TABLE log (n int);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO log VALUES (new.n); RETURN new; END';
CREATE TRIGGER fires AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER always AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER replica AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
CREATE TRIGGER never AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
ALTER TABLE t ENABLE ALWAYS TRIGGER always; ALTER TABLE t ENABLE REPLICA TRIGGER replica;
ALTER TABLE t DISABLE TRIGGER never;
"""


@pytest.fixture
def target(two_databases: TwoDatabases) -> Side:
    two_databases.target.run(SCHEMA)
    return two_databases.target


def states(side: Side) -> set[tuple[str, str]]:
    return set(side.rows("SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"))


async def test_triggers_are_off_and_then_as_they_were(
    target: Side, two_databases: TwoDatabases
) -> None:
    before = states(target)
    async with triggers_off(target.url, two_databases.journal, {TABLE: NAMES}):
        target.run("INSERT INTO t VALUES (1)")
        assert target.rows("SELECT * FROM log") == []
    assert states(target) == before
    assert len({state for _, state in before}) == 4


async def test_triggers_that_a_killed_run_left_off_are_switched_on_again(
    target: Side, two_databases: TwoDatabases
) -> None:
    before = states(target)
    await triggers_off(target.url, two_databases.journal, {TABLE: NAMES}).__aenter__()
    assert {state for _, state in states(target)} == {"D"}
    await restore_triggers(target.url, two_databases.journal)
    assert states(target) == before


async def test_a_trigger_of_a_table_of_another_role_is_named(
    target: Side, two_databases: TwoDatabases
) -> None:
    target.run("DROP ROLE IF EXISTS mover; CREATE ROLE mover LOGIN PASSWORD 'secret'")
    url = target.url.set(username="mover", password="secret")
    with pytest.raises(MoveFailed, match=r"public\.t of the target .* its trigger fires cannot"):
        async with triggers_off(url, two_databases.journal, {TABLE: ["fires"]}):
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
    off = {TABLE: ["amphibase_log_change"]}
    async with triggers_off(target.url, two_databases.journal, off):
        pass
    assert target.rows("SELECT * FROM amphibase.changes") == [("t", "TRUNCATE")]
    target.run("DROP ROLE IF EXISTS mover; CREATE ROLE mover LOGIN PASSWORD 'secret'")
    target.run("GRANT USAGE ON SCHEMA amphibase TO mover; ALTER TABLE t OWNER TO mover")
    before = states(target)
    with pytest.raises(MoveFailed, match=r"may not write to amphibase\.changes"):
        async with triggers_off(
            target.url.set(username="mover", password="secret"), two_databases.journal, off
        ):
            pass
    assert states(target) == before


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
CREATE TRIGGER second AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.n); END;
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


@pytest.mark.parametrize("is_killed", [False, True], ids=["ended", "killed"])
async def test_triggers_of_sqlite_are_dropped_and_created_again_as_they_were(
    file: sqlite3.Connection, tmp_path: Path, is_killed: bool
) -> None:
    url, before = make_url(f"sqlite:///{tmp_path}/app.db"), created(file)
    with Journal(tmp_path / "plan.toml") as journal:
        off = triggers_off(url, journal, {SQLITE: SQLITE_NAMES})
        await off.__aenter__()
        assert {name for name, _ in created(file)} == {"stays"}
        file.execute("INSERT INTO t VALUES (1)")
        assert file.execute("SELECT count(*) FROM log").fetchone() == (0,)
        if is_killed:
            del off
            await restore_triggers(url, journal)
        else:
            await off.__aexit__(None, None, None)
        assert created(file) == before
        await restore_triggers(url, journal)  # once more changes nothing
    file.execute("INSERT INTO t VALUES (1)")
    logged = file.execute("SELECT * FROM amphibase_changes").fetchall()
    assert logged == [("t", "TRUNCATE"), ("t", "INSERT")]
    assert file.execute("SELECT count(*) FROM log").fetchone() == (2,)
