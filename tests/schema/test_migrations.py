"""Upgrades, downgrades and starts, on an empty database of each kind."""

import asyncio
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    String,
    Table,
    Uuid,
    inspect,
    text,
)
from tests.schema.application import CHAINS, Application, application_on

from amphibase.errors import (
    ConfigurationError,
    ForeignKeyViolation,
)
from amphibase.schema.migrations.chains import packaged_chain
from amphibase.schema.migrations.transaction import schema_transaction
from amphibase.schema.tables import tables


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Accounts and files are in the same database: all chains of revisions run."""
    return {}


async def test_an_empty_database_goes_to_head_to_base_and_to_head_again(
    application: Application,
) -> None:
    """Every chain runs forth, back to nothing, and forth again."""
    done = await application.upgrade()
    assert [applied.chain for applied in done] == ["auth", *CHAINS, "application"]
    assert {applied.status for applied in done} == {"applied"}
    assert await application.upgrade() == []
    for chain in reversed(CHAINS):
        undone = await application.downgrade(chain, "base")
        assert {applied.status for applied in undone} == {"undone"}
    assert await application.stand() == dict.fromkeys(CHAINS)
    missing = await application.differences()
    own = tables(application.database.dialect)
    assert len(missing) == len(own.auth.tables) + len(own.storage.tables) + len({"users"})
    assert all(line.endswith("is missing from the database") for line in missing)
    assert len(await application.upgrade()) == 5
    assert await application.differences() == []


async def test_accounts_of_the_first_revision_get_the_table_of_pending_sign_ups(
    application: Application,
) -> None:
    """Those that exist stay."""
    users = tables(application.database.dialect).users
    chain = packaged_chain(application.database, "auth")
    async with schema_transaction(application.database) as connection:
        for step in await connection.run_sync(chain.upgrades, "0001"):
            await connection.run_sync(chain.run, step)
    await application.add(users, email="ann@example.com")
    done = await application.upgrade()
    assert [step.revision for step in done if step.chain == "auth"] == ["0002"]
    assert await application.differences() == []
    assert await application.count(users) == 1


async def test_an_upgrade_that_fails_changes_nothing(application: Application) -> None:
    """All revisions are in one transaction, and the error names the one that failed."""
    application.write("good", "0002", 'op.execute("CREATE TABLE good (id INTEGER)")')
    application.write("bad", "good", 'op.execute("nonsense")')
    with pytest.raises(
        ConfigurationError, match=r"Revision bad .* nothing was changed: .*nonsense"
    ):
        await application.upgrade()
    assert await application.stand() == dict.fromkeys(CHAINS)
    async with application.database.read() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    assert len(await application.upgrade(revision="good")) == 6


async def test_a_revision_cannot_leave_the_transaction(application: Application) -> None:
    """What would commit half of an upgrade is rejected, with advice."""
    application.write("index", "0002", "op.get_context().autocommit_block().__enter__()")
    with pytest.raises(ConfigurationError, match="one transaction"):
        await application.upgrade()
    assert await application.stand() == dict.fromkeys(CHAINS)


async def test_the_folder_of_a_sqlite_file_is_created(tmp_path: Path) -> None:
    """Or, where it cannot be, the error names the file."""
    async with application_on(f"sqlite:///{tmp_path}/new/folder/app.db") as application:
        assert len(await application.upgrade()) == 5
    (tmp_path / "file").touch()
    async with application_on(f"sqlite:///{tmp_path}/file/app.db") as application:
        with pytest.raises(ConfigurationError, match=r"file/app\.db cannot be created"):
            await application.require_current()


async def test_a_failing_revision_does_not_quote_rows(application: Application) -> None:
    """The value that the database rejects is not in the message."""
    await application.upgrade()
    await application.add(
        application.models.tables["users"], id=uuid.uuid4(), email="ann@example.com"
    )
    again = (
        "INSERT INTO users (id, email) VALUES ('00000000000000000000000000000000', "
        "(SELECT email FROM users))"
    )
    application.write("copy", "0002", f'op.execute("{again}")')
    with pytest.raises(ConfigurationError, match="email exists already") as failure:
        await application.upgrade()
    assert "ann@" not in str(failure.value)


async def test_rows_that_would_refer_to_nothing_stop_an_upgrade(
    sqlite_application: Application,
) -> None:
    """On SQLite, where a change runs without foreign keys, they are checked before it is stored."""
    application = sqlite_application
    notes = application.add_notes()
    users = application.models.tables["users"]
    await application.ensure()
    owner = uuid.uuid4()
    await application.add(users, id=owner, email="ann@example.com")
    await application.add(notes, id=owner, owner_id=owner, title="a")
    application.write("purge", "0002", 'op.execute("DELETE FROM users")')
    with pytest.raises(ForeignKeyViolation, match="notes to users"):
        await application.upgrade()
    assert await application.count(users) == 1
    with pytest.raises(ForeignKeyViolation):
        await application.add(notes, id=uuid.uuid4(), owner_id=uuid.uuid4(), title="b")


async def test_a_table_of_others_is_neither_adopted_nor_touched(
    application: Application,
) -> None:
    """A table of accounts that Amphibase did not make stops the upgrade."""
    await application.upgrade()
    await application.downgrade("auth", "base")
    users = "auth.users" if application.database.dialect == "postgresql" else "auth_users"
    async with application.database.write() as connection:
        await connection.execute(text(f"CREATE TABLE {users} (id INTEGER)"))
    with pytest.raises(ConfigurationError, match=r"auth chain failed.*already exists"):
        await application.upgrade()


async def test_a_later_start_in_development_makes_what_is_missing(application: Application) -> None:
    """Revisions that wait are run, and models without a revision get their tables."""
    notes = application.add_notes()
    await application.revision("notes")
    plans = Table("plans", application.models, Column("id", Uuid(), primary_key=True))
    await application.ensure()
    assert await application.differences() == []
    assert await application.count(plans) == await application.count(notes) == 0
    assert (await application.stand())["application"] not in (None, "0002")


async def test_two_upgrades_at_once_both_succeed(
    application: Application, database_url: str
) -> None:
    """One runs the revisions, the other waits and finds nothing to do."""
    async with application_on(database_url) as second:
        done = await asyncio.gather(application.upgrade(), second.upgrade())
    assert sorted(map(len, done)) == [0, 5]


async def test_upgrades_of_two_databases_at_once_do_not_mix(
    application: Application, sqlite_application: Application, postgres_application: Application
) -> None:
    """Each database of a process gets its own revisions, all of them."""
    other = (
        sqlite_application if application.database.dialect == "postgresql" else postgres_application
    )
    done = await asyncio.gather(application.upgrade(), other.upgrade())
    assert list(map(len, done)) == [5, 5]
    assert await application.differences() == await other.differences() == []


START = """
import asyncio, pathlib, sys
from amphibase.models import Base
from amphibase.settings.application import load_settings
from amphibase.schema import commands as schema
from amphibase.database.engine import Database

settings = load_settings()
pathlib.Path(sys.argv[1]).touch()
asyncio.run(schema.ensure(Database(settings.database), settings, Base.metadata))
"""

WAIT_FOR_THE_SECOND = """
    import pathlib, time
    pathlib.Path("inside").touch()
    while not pathlib.Path("second").exists():
        time.sleep(0.05)
    time.sleep(0.5)
"""


async def test_two_processes_that_start_at_once_both_succeed(
    application: Application, database_url: str, tmp_path: Path
) -> None:
    """The second waits until the first has made everything, and has nothing to do then."""
    application.write("slow", "0002", WAIT_FOR_THE_SECOND)

    async def start(name: str) -> asyncio.subprocess.Process:
        arguments = [sys.executable, "-c", START, name]
        return await asyncio.create_subprocess_exec(
            *arguments,
            cwd=tmp_path,
            env={"DATABASE_URL": database_url},
            stderr=asyncio.subprocess.PIPE,
        )

    first = await start("first")
    while not (tmp_path / "inside").exists():
        await asyncio.sleep(0.05)
        assert first.returncode is None
    for process in (await start("second"), first):
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    assert await application.differences() == []
    await application.require_current()


async def test_a_revision_that_does_not_exist_is_a_readable_error(application: Application) -> None:
    """Targets, chains and the database's own stand are named when they are unknown."""
    with pytest.raises(ConfigurationError, match=r"'nope'.*amphibase db current"):
        await application.upgrade(revision="nope")
    with pytest.raises(ConfigurationError, match="'nope'"):
        await application.downgrade("application", "nope")
    with pytest.raises(ConfigurationError, match=r"No chain 'nope'.*auth, storage, application"):
        await application.downgrade("nope", "base")
    await application.upgrade()
    async with application.database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    with pytest.raises(
        ConfigurationError, match=r"at revision later .* with the code that made it"
    ):
        await application.upgrade()
    await application.require_current()


@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        ({"a": "0002", "b": "0002"}, "Two revisions follow the same one"),
        ({"a": "gone"}, "gone .* not present"),
        ({"0001": "a", "a": "0001"}, "cannot be read"),
    ],
)
async def test_revisions_that_make_no_chain_are_a_readable_error(
    application: Application,
    revisions: dict[str, str],
    message: str,
) -> None:
    """What is wrong between the files is said before anything runs."""
    for name, after in revisions.items():
        application.write(name, after, "pass")
    with pytest.raises(ConfigurationError, match=message):
        await application.upgrade()


async def test_production_does_not_start_on_a_database_that_is_behind(
    application: Application,
) -> None:
    """It says what to run, and starts once that was done."""
    behind = "^The database is behind: run `amphibase db upgrade`$"
    with pytest.raises(ConfigurationError, match=behind):
        await application.require_current()
    await application.upgrade()
    await application.require_current()
    application.write("next", "0002", "pass")
    with pytest.raises(ConfigurationError, match=behind):
        await application.require_current()


async def test_only_the_chains_run_whose_part_lives_in_sql(database_url: str) -> None:
    """Where Supabase keeps a part, nothing is made for it here."""
    async with application_on(database_url, accounts="supabase", files="supabase") as application:
        assert {applied.chain for applied in await application.upgrade()} == {"application"}
        assert await application.differences() == []
    async with application_on(database_url, records="supabase") as application:
        assert [applied.chain for applied in await application.upgrade()] == [
            "auth",
            "auth",
            "storage",
        ]
        with pytest.raises(ConfigurationError, match="No chain 'application'"):
            await application.revision("notes")


async def test_check_says_in_words_what_differs(application: Application) -> None:
    """Each difference names its table and column, and no table of another chain is mentioned."""
    notes = application.add_notes()
    await application.ensure()
    async with application.database.write() as connection:
        await connection.execute(text("CREATE TABLE old (id INTEGER)"))
        await connection.execute(text("ALTER TABLE notes ADD COLUMN extra INTEGER"))
        await connection.execute(text("DROP INDEX ix_notes_owner_id"))
    notes.append_column(Column("stars", Integer()))
    notes.c.title.type = String(300)
    notes.c.seen.nullable = True
    assert set(await application.differences()) == {
        "table old is in the database alone",
        "column notes.extra is in the database alone",
        "column notes.stars is missing from the database",
        "column notes.title: its type should be VARCHAR(300), is VARCHAR(200)",
        "column notes.seen: it should take NULL",
        "index ix_notes_owner_id of notes is missing from the database",
    }


async def test_models_live_in_the_default_schema(application: Application) -> None:
    """A model that names another schema is rejected, for no other backend has schemas."""
    Table("deals", application.models, Column("id", Uuid(), primary_key=True), schema="crm")
    with pytest.raises(ConfigurationError, match=r"crm\.deals names a schema"):
        await application.upgrade()


async def test_a_schema_that_exists_already_is_used(postgres_application: Application) -> None:
    """A schema `auth` made by another program is no reason to fail."""
    async with postgres_application.database.write() as connection:
        await connection.execute(text("CREATE SCHEMA auth"))
    assert len(await postgres_application.upgrade()) == 5
