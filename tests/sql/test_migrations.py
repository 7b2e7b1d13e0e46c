"""The tables of a database: made, compared, changed by revisions, on SQLite and on Postgres."""

import asyncio
import importlib.util
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    insert,
    inspect,
    select,
    text,
    true,
)
from sqlalchemy.types import TypeDecorator

from amphibase.errors import (
    ConfigurationError,
    Conflict,
    ForeignKeyViolation,
    InvalidValue,
    Unavailable,
)
from amphibase.models import NAMING, Base, Json, User, UtcDateTime, utc_now
from amphibase.settings import Settings, load_settings
from amphibase.sql import schema
from amphibase.sql.engine import Database
from amphibase.sql.tables import Tables, tables

CHAINS = ["auth", "storage", "application"]
MakeSettings = Callable[..., Settings]


class Shout(TypeDecorator[str]):
    """A type of the application's own."""

    impl = String(40)
    cache_ok = True


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = Database(settings)
    yield opened
    await opened.close()


@pytest.fixture
def models() -> MetaData:
    """The models of an application that has added none yet."""
    metadata = MetaData(naming_convention=NAMING)
    User.metadata.tables["users"].to_metadata(metadata)
    return metadata


def add_notes(metadata: MetaData, *more: Any) -> Table:
    """A model with a bit of everything."""
    owner = ForeignKey("users.id", ondelete="CASCADE")
    return Table(
        "notes",
        metadata,
        Column("id", Uuid(), primary_key=True),
        Column(
            "owner_id",
            Uuid(),
            ForeignKey("users.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        Column("title", String(200), nullable=False),
        Column("body", Text(), nullable=False, server_default=""),
        Column("seen", Boolean(), nullable=False, server_default=true()),
        Column("written_at", UtcDateTime(), nullable=False, server_default=func.now()),
        Column("data", Json),
        Column("kind", Enum("idea", "task", name="kind")),
        Column("tag", Shout()),
        UniqueConstraint("owner_id", "title"),
        CheckConstraint("length(title) > 0", name="title"),
        *more,
    )


async def stand_of(database: Database, settings: Settings, models: MetaData) -> dict[str, Any]:
    positions = await schema.current(database, settings, models)
    return {position.chain: position.current for position in positions}


async def differences(database: Database, settings: Settings, models: MetaData) -> list[str]:
    return [str(found) for found in await schema.check(database, settings, models)]


async def add_row(database: Database, table: Table, **values: Any) -> None:
    async with stage.database.write() as connection:
        await connection.execute(insert(table).values(**values))


async def count(database: Database, table: Table) -> int:
    async with stage.database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def make_directly(database: Database, metadata: MetaData) -> None:
    """What a start in development does for a model without a revision."""
    async with stage.database.write() as connection:
        await connection.run_sync(metadata.create_all)


def write_revision(settings: Settings, name: str, after: str, upgrade: str) -> None:
    stage.settings.migrations_dir.mkdir(exist_ok=True)
    (stage.settings.migrations_dir / f"{name}.py").write_text(
        f'"""{name}"""\nfrom alembic import op\n'
        f'revision = "{name}"\ndown_revision = "{after}"\n'
        f"def upgrade():\n    {upgrade}\n\ndef downgrade():\n    pass\n"
    )


async def test_an_empty_database_goes_to_head_to_base_and_to_head_again(stage: Stage) -> None:
    """Every chain runs forth, back to nothing, and forth again."""
    done = await stage.upgrade()
    assert [applied.chain for applied in done] == CHAINS
    assert {applied.status for applied in done} == {"applied"}
    assert await stage.upgrade() == []
    for chain in reversed(CHAINS):
        undone = await stage.downgrade(chain, "base")
        assert [applied.status for applied in undone] == ["undone"]
    assert await stage.stand() == dict.fromkeys(CHAINS)
    missing = await stage.differences()
    assert len(missing) == 13
    assert all(line.endswith("is missing from the database") for line in missing)
    assert len(await stage.upgrade()) == 3
    assert await stage.differences() == []


async def test_migrations_make_exactly_what_the_tables_say(
    database: Database, make_settings: MakeSettings, tmp_path: Path
) -> None:
    """Columns, types, defaults, constraints and indexes are the same as those of `tables()`."""
    models = MetaData()
    settings = make_settings()
    await schema.upgrade(database, settings, Base.metadata)
    async with stage.database.read() as connection:
        migrated = await connection.run_sync(catalogue)
    for chain in ("auth", "storage"):
        await stage.downgrade(chain, "base")
    known = tables(stage.database.dialect)
    async with stage.database.write() as connection:
        await connection.run_sync(known.auth.create_all)
        await connection.run_sync(known.storage.create_all)
    async with stage.database.read() as connection:
        assert migrated == await connection.run_sync(catalogue)


def catalogue(connection: Connection) -> list[Any]:
    """Everything that the engine's own catalogue says of the tables of accounts and files."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(
            text("SELECT type, name, sql FROM sqlite_master WHERE tbl_name NOT LIKE '%version'")
        )
        # The order of constraints inside a table has no meaning.
        return sorted(
            (kind, name, sorted(part.strip(" ,\t)") for part in (sql or "").splitlines()))
            for kind, name, sql in rows
            if name.startswith(("auth", "storage"))
        )
    found: list[Any] = []
    for statement in (
        "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),"
        " a.attnotnull, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE a.attnum > 0 AND c.relnamespace IN ('auth'::regnamespace, 'storage'::regnamespace)",
        "SELECT indexdef FROM pg_indexes WHERE schemaname IN ('auth', 'storage')",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace IN ('auth'::regnamespace, 'storage'::regnamespace)",
        "SELECT enumtypid::regtype::text, enumsortorder, enumlabel FROM pg_enum",
    ):
        rows = connection.execute(text(statement))
        found += sorted([str(tuple(row)) for row in rows if "version" not in str(row[0])])
    return found


async def test_a_new_model_becomes_a_revision_that_makes_it(stage: Stage) -> None:
    """The revision follows the packaged one, upgrades, and leaves no difference."""
    await stage.upgrade()
    notes = add_notes(stage.models)
    assert await stage.differences() == ["table notes is missing from the database"]
    path = await stage.revision("Add notes!")
    assert path is not None
    assert path.parent == stage.settings.migrations_dir.absolute()
    assert path.name.endswith("_add_notes.py")
    assert 'down_revision = "0001"' in path.read_text()
    done = await stage.upgrade()
    assert [(applied.message, applied.status) for applied in done] == [("Add notes!", "applied")]
    assert await stage.differences() == []
    assert await stage.revision("again") is None
    owner = uuid.uuid4()
    await stage.add(stage.models.tables["users"], id=owner, email="ann@example.com")
    await stage.add(notes, id=owner, owner_id=owner, title="a", written_at=utc_now())
    with pytest.raises(InvalidValue):
        await stage.add(notes, id=uuid.uuid4(), owner_id=owner, title="")


async def test_a_revision_is_written_as_people_would_write_it(stage: Stage) -> None:
    """The file is clean for ruff, imports what it uses, and does not import the application."""
    add_notes(stage.models)
    first = await stage.revision('say "notes"')
    stage.models.tables["notes"].append_column(
        Column("stars", Integer(), nullable=False, default=3)
    )
    second = await stage.revision("stars")
    empty = await stage.revision("by hand", autogenerate=False)
    assert first is not None
    assert second is not None
    assert empty is not None
    assert "UtcDateTime" not in first.read_text()
    assert "Shout" not in first.read_text()
    assert "sa.DateTime(timezone=True)" in first.read_text()
    assert 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")' in first.read_text()
    assert "sa.Uuid()" in first.read_text()
    for path in (first, second, empty):
        spec = importlib.util.spec_from_file_location("a_revision", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    rules = ["--isolated", "--line-length=88", "--select=E,F,I,UP,B,SIM,RUF,N,C4,PIE,RET,TID"]
    ruff = [sys.executable, "-m", "ruff", "check", *rules, str(first), str(second), str(empty)]
    found = await asyncio.to_thread(
        subprocess.run, ruff, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


async def test_the_same_revision_runs_on_both_engines(
    stage: Stage, sqlite_url: str, postgres_url: str
) -> None:
    """What was written on one engine upgrades the other and leaves no difference there."""
    add_notes(stage.models)
    await stage.revision("notes")
    other_url = sqlite_url if stage.database.dialect == "postgresql" else postgres_url
    others = load_settings(database_url=other_url, migrations_dir=stage.settings.migrations_dir)
    other = Database(others)
    try:
        assert len(await schema.upgrade(other, others, models)) == 4
        assert await differences(other, others, models) == []
    finally:
        await other.close()


async def test_a_column_is_added_to_a_table_that_has_rows(stage: Stage) -> None:
    """Rows get the model's default; what refers to them, and checks, survive the change."""
    notes = add_notes(stage.models)
    await stage.revision("notes")
    await stage.upgrade()
    owner = uuid.uuid4()
    users = stage.models.tables["users"]
    await stage.add(users, id=owner, email="ann@example.com")
    await stage.add(notes, id=owner, owner_id=owner, title="a", written_at=utc_now())
    notes.append_column(Column("stars", Integer(), nullable=False, default=3))
    notes.append_column(Column("mood", Enum("good", "bad", name="mood")))
    users.append_column(Column("nickname", String(20), nullable=False, default=""))
    users.c.name.type = String(300)
    await stage.revision("stars")
    await stage.upgrade()
    assert await stage.differences() == []
    async with stage.database.read() as connection:
        assert (await connection.execute(select(notes.c.stars, notes.c.mood))).all() == [(3, None)]
        assert (await connection.execute(select(users.c.nickname))).all() == [("",)]
    with pytest.raises(InvalidValue):
        await stage.add(notes, id=uuid.uuid4(), owner_id=owner, title="")
    await stage.downgrade("application", "-1")
    assert await stage.count(notes) == 1
    await stage.upgrade()
    assert await stage.differences() == []


async def test_downgrade_and_upgrade_again_with_an_enum(stage: Stage) -> None:
    """An enum type that a downgrade leaves behind, or another table uses, is in nobody's way."""
    add_notes(stage.models)
    await stage.revision("notes")
    await stage.upgrade()
    await stage.downgrade("application", "0001")
    kind: Column[str] = Column("kind", Enum("idea", "task", name="kind"))
    Table("plans", stage.models, Column("id", Uuid(), primary_key=True), kind)
    await stage.revision("plans")
    statuses = [applied.status for applied in await stage.upgrade()]
    assert statuses == ["applied", "applied"]
    assert await stage.differences() == []


async def test_an_upgrade_that_fails_changes_nothing(stage: Stage) -> None:
    """All revisions are in one transaction, and the error names the one that failed."""
    stage.write("good", "0001", 'op.execute("CREATE TABLE good (id INTEGER)")')
    stage.write("bad", "good", 'op.execute("nonsense")')
    with pytest.raises(
        ConfigurationError, match=r"Revision bad .* nothing was changed: .*nonsense"
    ):
        await stage.upgrade()
    assert await stage.stand() == dict.fromkeys(CHAINS)
    async with stage.database.read() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    assert len(await stage.upgrade(revision="good")) == 4


async def test_a_failing_revision_does_not_quote_rows(stage: Stage) -> None:
    """The value that the database refuses is not in the message."""
    await stage.upgrade()
    await stage.add(stage.models.tables["users"], id=uuid.uuid4(), email="ann@example.com")
    again = (
        "INSERT INTO users (id, email) VALUES ('00000000000000000000000000000000', "
        "(SELECT email FROM users))"
    )
    stage.write("copy", "0001", f'op.execute("{again}")')
    with pytest.raises(ConfigurationError, match="email exists already") as failure:
        await stage.upgrade()
    assert "ann@" not in str(failure.value)


async def test_rows_that_would_refer_to_nothing_stop_an_upgrade(
    make_settings: MakeSettings, sqlite_url: str, models: MetaData
) -> None:
    """On SQLite, where a change runs without foreign keys, they are checked before it is stored."""
    settings = make_settings(database_url=sqlite_url)
    database = Database(settings)
    notes = add_notes(stage.models)
    await stage.ensure()
    owner = uuid.uuid4()
    await stage.add(stage.models.tables["users"], id=owner, email="ann@example.com")
    await stage.add(notes, id=owner, owner_id=owner, title="a", written_at=utc_now())
    stage.write("purge", "0001", 'op.execute("DELETE FROM users")')
    with pytest.raises(ForeignKeyViolation, match="notes to users"):
        await stage.upgrade()
    assert await stage.count(stage.models.tables["users"]) == 1
    with pytest.raises(ForeignKeyViolation):
        await stage.add(
            notes, id=uuid.uuid4(), owner_id=uuid.uuid4(), title="b", written_at=utc_now()
        )
    await database.close()


async def test_what_serve_made_is_adopted(stage: Stage) -> None:
    """A revision whose table a start in development made already is noted, not run."""
    notes = add_notes(stage.models)
    await stage.ensure()
    owner = uuid.uuid4()
    await stage.add(stage.models.tables["users"], id=owner, email="ann@example.com")
    await stage.add(notes, id=owner, owner_id=owner, title="a", written_at=utc_now())
    path = await stage.revision("notes")
    assert path is not None
    assert "create_table" in path.read_text()
    done = await stage.upgrade()
    assert [applied.status for applied in done] == ["adopted"]
    assert await stage.count(notes) == 1
    assert await stage.differences() == []
    assert await stage.upgrade() == []


async def test_a_revision_that_only_changes_rows_is_run_and_not_adopted(stage: Stage) -> None:
    """That the tables are as they should be does not make a revision superfluous."""
    await stage.upgrade()
    users = stage.models.tables["users"]
    await stage.add(users, id=uuid.uuid4(), email="ann@example.com")
    update = "UPDATE users SET name = 'Ann'"
    stage.write("names", "0001", f'op.execute("{update}")')
    done = await stage.upgrade()
    assert [applied.status for applied in done] == ["applied"]
    async with stage.database.read() as connection:
        assert (await connection.execute(select(users.c.name))).scalar_one() == "Ann"


async def test_a_table_that_differs_is_not_adopted(stage: Stage) -> None:
    """When the table is there but not as the revision makes it, the error says what is missing."""
    add_notes(stage.models)
    await stage.ensure()
    stage.models.tables["notes"].append_column(Column("stars", Integer()))
    await stage.revision("notes")
    with pytest.raises(ConfigurationError, match=r"column notes\.stars is missing"):
        await stage.upgrade()
    assert (await stage.stand())["application"] == "0001"


async def test_a_table_of_strangers_is_neither_adopted_nor_touched(stage: Stage) -> None:
    """A table of accounts that Amphibase did not make stops the upgrade."""
    await stage.upgrade()
    await stage.downgrade("auth", "base")
    users = "auth.users" if stage.database.dialect == "postgresql" else "auth_users"
    async with stage.database.write() as connection:
        await connection.execute(text(f"CREATE TABLE {users} (id INTEGER)"))
    with pytest.raises(ConfigurationError, match=r"auth chain failed.*already exists"):
        await stage.upgrade()


async def test_the_profile_may_have_columns_of_its_own(stage: Stage) -> None:
    """A first start in development makes the profile's table as the application's class says."""
    stage.models.tables["users"].append_column(Column("nickname", String(20), nullable=False))
    await stage.ensure()
    await stage.ensure()
    assert await stage.differences() == []
    assert await stage.revision("nicknames") is not None
    assert [each.status for each in await stage.upgrade()] == ["adopted"]


async def test_a_later_start_in_development_makes_what_is_missing(stage: Stage) -> None:
    """Revisions that wait are run, and models without a revision get their tables."""
    notes = add_notes(stage.models)
    await stage.revision("notes")
    plans = Table("plans", stage.models, Column("id", Uuid(), primary_key=True))
    await stage.ensure()
    assert await stage.differences() == []
    assert await stage.count(plans) == await stage.count(notes) == 0
    assert (await stage.stand())["application"] not in (None, "0001")


async def test_two_upgrades_at_once_both_succeed(stage: Stage) -> None:
    """One runs the revisions, the other waits and finds nothing to do."""
    second = Database(settings)
    both = [schema.upgrade(each, settings, models) for each in (database, second)]
    done = await asyncio.gather(*both)
    await second.close()
    assert sorted(map(len, done)) == [0, 3]


async def test_two_processes_that_start_at_once_both_succeed(
    database: Database, database_url: str, settings: Settings, models: MetaData, tmp_path: Path
) -> None:
    """The database itself makes one wait for the other."""
    program = (
        "import asyncio\n"
        "from amphibase.models import Base\n"
        "from amphibase.settings import load_settings\n"
        "from amphibase.sql import schema\n"
        "from amphibase.sql.engine import Database\n"
        "settings = load_settings()\n"
        "asyncio.run(schema.ensure(Database(settings), settings, Base.metadata))\n"
    )
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            cwd=tmp_path,
            env={"DATABASE_URL": database_url},
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for process in started:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    assert await stage.differences() == []


async def test_a_revision_that_does_not_exist_is_a_readable_error(stage: Stage) -> None:
    """Targets, chains and the database's own stand are named when they are unknown."""
    with pytest.raises(ConfigurationError, match=r"'nope'.*amphibase db current"):
        await stage.upgrade(revision="nope")
    with pytest.raises(ConfigurationError, match="'nope'"):
        await stage.downgrade("application", "nope")
    with pytest.raises(ConfigurationError, match=r"No chain 'nope'.*auth, storage, application"):
        await stage.downgrade("nope", "base")
    await stage.upgrade()
    async with stage.database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    with pytest.raises(
        ConfigurationError, match=r"at revision later .* with the code that made it"
    ):
        await stage.upgrade()
    await stage.pending()


@pytest.mark.parametrize(
    ("revisions", "message"),
    [
        ({"a": "0001", "b": "0001"}, "Two revisions follow the same one"),
        ({"a": "gone"}, "gone .* not present"),
        ({"0001": "a", "a": "0001"}, "cannot be read"),
    ],
)
async def test_revisions_that_make_no_chain_are_a_readable_error(
    database: Database,
    settings: Settings,
    models: MetaData,
    revisions: dict[str, str],
    message: str,
) -> None:
    """What is wrong between the files is said before anything runs."""
    for name, after in revisions.items():
        stage.write(name, after, "pass")
    with pytest.raises(ConfigurationError, match=message):
        await stage.upgrade()


async def test_production_does_not_start_on_a_database_that_is_behind(stage: Stage) -> None:
    """It says what to run, and starts once that was done."""
    behind = "^The database is behind: run `amphibase db upgrade`$"
    with pytest.raises(ConfigurationError, match=behind):
        await stage.pending()
    await stage.upgrade()
    await stage.pending()
    stage.write("next", "0001", "pass")
    with pytest.raises(ConfigurationError, match=behind):
        await stage.pending()


async def test_only_the_chains_run_whose_part_lives_in_sql(
    make_settings: MakeSettings, models: MetaData
) -> None:
    """Where Supabase keeps a part, nothing is made for it here."""
    supabase = {
        "supabase_url": "https://abcdefgh.supabase.co",
        "supabase_anon_key": "anon",
        "supabase_service_key": "service",
    }
    settings = make_settings(accounts="supabase", files="supabase", **supabase)
    database = Database(settings)
    assert [each.chain for each in await stage.upgrade()] == ["application"]
    assert await schema.check(database, settings, models) == []
    await database.close()
    settings = make_settings(records="supabase", **supabase)
    database = Database(settings)
    assert [each.chain for each in await stage.upgrade()] == [
        "auth",
        "storage",
    ]
    with pytest.raises(ConfigurationError, match="No chain 'application'"):
        await stage.revision("notes")
    await database.close()


async def test_check_says_in_words_what_differs(stage: Stage) -> None:
    """Each difference names its table and column, and no table of another chain is mentioned."""
    notes = add_notes(stage.models)
    await make_directly(database, models)
    await stage.upgrade()
    async with stage.database.write() as connection:
        await connection.execute(text("CREATE TABLE old (id INTEGER)"))
        await connection.execute(text("ALTER TABLE notes ADD COLUMN extra INTEGER"))
        await connection.execute(text("DROP INDEX ix_notes_owner_id"))
    notes.append_column(Column("stars", Integer()))
    notes.c.title.type = String(300)
    notes.c.seen.nullable = True
    assert set(await stage.differences()) == {
        "table old is in the database alone",
        "column notes.extra is in the database alone",
        "column notes.stars is missing from the database",
        "column notes.title: its type should be VARCHAR(300), is VARCHAR(200)",
        "column notes.seen: it should take NULL",
        "index ix_notes_owner_id of notes is missing from the database",
    }


async def test_models_live_in_the_default_schema(stage: Stage) -> None:
    """A model that names another schema is refused, for no other home has schemas."""
    Table("deals", stage.models, Column("id", Uuid(), primary_key=True), schema="crm")
    with pytest.raises(ConfigurationError, match=r"crm\.deals names a schema"):
        await stage.upgrade()


async def test_a_schema_that_exists_already_is_used(
    make_settings: MakeSettings, postgres_url: str, models: MetaData
) -> None:
    """A schema `auth` made by somebody else is no reason to fail."""
    settings = make_settings(database_url=postgres_url)
    database = Database(settings)
    async with stage.database.write() as connection:
        await connection.execute(text("CREATE SCHEMA auth"))
    assert len(await stage.upgrade()) == 3
    await database.close()


async def test_a_revision_leaves_no_trace_in_the_database(
    make_settings: MakeSettings, postgres_url: str, models: MetaData
) -> None:
    """The schema that revisions are run in on Postgres is gone afterwards."""
    settings = make_settings(database_url=postgres_url)
    database = Database(settings)
    add_notes(stage.models)
    assert await stage.revision("notes") is not None
    async with stage.database.read() as connection:
        schemas = await connection.run_sync(lambda sync: inspect(sync).get_schema_names())
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    assert set(schemas) == {"information_schema", "public"}
    await database.close()


async def test_a_revision_without_a_database_is_a_readable_error(models: MetaData) -> None:
    """On Postgres the error says why the database is needed."""
    settings = load_settings(database_url="postgresql://ann:hidden@127.0.0.1:1/app")
    database = Database(settings)
    add_notes(stage.models)
    with pytest.raises(Unavailable, match="a revision needs the database") as failure:
        await stage.revision("notes")
    assert "hidden" not in str(failure.value)
    await database.close()


@pytest.fixture
async def accounts(database: Database, settings: Settings, models: MetaData) -> Tables:
    """The tables, made."""
    await stage.upgrade()
    return tables(stage.database.dialect)


async def test_deleting_an_account_deletes_what_is_its_own(stage: Stage, accounts: Tables) -> None:
    """Identities, sessions, refresh tokens, factors and links go with the account."""
    user, session, factor = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    now = utc_now()
    rows: list[tuple[Table, dict[str, Any]]] = [
        (accounts.users, {"id": user, "email": "ann@example.com"}),
        (
            accounts.identities,
            {"user_id": user, "provider": "email", "provider_id": "1", "identity_data": {}},
        ),
        (accounts.sessions, {"id": session, "user_id": user, "aal": "aal1", "ip": "127.0.0.1"}),
        (accounts.refresh_tokens, {"session_id": session, "token": "t", "user_id": str(user)}),
        (
            accounts.mfa_amr_claims,
            {
                "session_id": session,
                "authentication_method": "otp",
                "created_at": now,
                "updated_at": now,
            },
        ),
        (
            accounts.mfa_factors,
            {
                "id": factor,
                "user_id": user,
                "factor_type": "totp",
                "status": "verified",
                "created_at": now,
                "updated_at": now,
            },
        ),
        (accounts.mfa_challenges, {"factor_id": factor, "created_at": now, "ip_address": "::1"}),
        (
            accounts.one_time_tokens,
            {
                "user_id": user,
                "token_type": "recovery_token",
                "token_hash": "h",
                "relates_to": "ann@example.com",
            },
        ),
    ]
    for table, values in rows:
        await stage.add(table, **values)
    async with stage.database.write() as connection:
        await connection.execute(accounts.users.delete())
    assert [await stage.count(table) for table, _ in rows] == [0] * len(rows)


async def test_an_account_written_by_hand_can_sign_in(stage: Stage, accounts: Tables) -> None:
    """What Supabase's Auth needs has a default: no instance, audience, role, empty tokens."""
    await stage.add(accounts.users, email="ann@example.com")
    async with stage.database.read() as connection:
        row = (await connection.execute(select(accounts.users))).one()
    assert row.instance_id == uuid.UUID(int=0)
    assert (row.aud, row.role) == ("authenticated", "authenticated")
    assert (row.confirmation_token, row.recovery_token, row.email_change_token_new) == ("", "", "")
    assert (row.is_sso_user, row.is_anonymous, row.confirmed_at) == (False, False, None)


async def test_an_address_is_unique_among_those_who_have_a_password(
    stage: Stage, accounts: Tables
) -> None:
    """Two accounts of single sign-on may share an address; the error names the column."""
    users = accounts.users
    await stage.add(users, email="ann@example.com", recovery_token="a")
    with pytest.raises(Conflict) as conflict:
        await stage.add(users, email="ann@example.com")
    assert conflict.value.columns == ("email",)
    for _ in range(2):
        await stage.add(users, email="ann@example.com", is_sso_user=True)
    with pytest.raises(Conflict):
        await stage.add(users, email="ben@example.com", recovery_token="a")


async def test_generated_columns_follow_their_sources(stage: Stage, accounts: Tables) -> None:
    """`confirmed_at` is the earlier confirmation; an identity's `email` is in lower case."""
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    users = accounts.users
    user = uuid.uuid4()
    await stage.add(users, id=user, phone_confirmed_at=late)
    await add_row(
        database,
        accounts.identities,
        user_id=user,
        provider="email",
        provider_id="1",
        identity_data={"email": "Ann@Example.com"},
    )
    async with stage.database.write() as connection:
        assert (await connection.execute(select(users.c.confirmed_at))).scalar_one() == late
        await connection.execute(users.update().values(email_confirmed_at=early))
        assert (await connection.execute(select(users.c.confirmed_at))).scalar_one() == early
        email = (await connection.execute(select(accounts.identities.c.email))).scalar_one()
    assert email == "ann@example.com"


async def test_an_enum_takes_its_values_alone(stage: Stage, accounts: Tables) -> None:
    """The database itself refuses a value that the enum does not have."""
    table = accounts.sessions.fullname
    user = uuid.uuid4()
    await stage.add(accounts.users, id=user)
    statement = f"INSERT INTO {table} (id, user_id, aal) VALUES (:id, :user, 'aal9')"
    key = user.hex if stage.database.dialect == "sqlite" else user
    with pytest.raises(InvalidValue):
        async with stage.database.write() as connection:
            await connection.execute(text(statement), {"id": key, "user": key})


async def test_files_are_unique_by_bucket_and_name(stage: Stage, accounts: Tables) -> None:
    """A bucket has defaults and an object has one row; a bucket with objects stays."""
    await stage.add(accounts.buckets, id="a", name="a", allowed_mime_types=["image/png"])
    await stage.add(accounts.objects, bucket_id="a", name="x/y.png")
    with pytest.raises(Conflict):
        await stage.add(accounts.objects, bucket_id="a", name="x/y.png")
    with pytest.raises(ForeignKeyViolation):
        async with stage.database.write() as connection:
            await connection.execute(accounts.buckets.delete())
    async with stage.database.read() as connection:
        bucket = (await connection.execute(select(accounts.buckets))).one()
        stored = (await connection.execute(select(accounts.objects))).one()
    assert (bucket.type, bucket.public) == ("STANDARD", False)
    assert bucket.allowed_mime_types == ["image/png"]
    if stage.database.dialect == "postgresql":
        assert stored.path_tokens == ["x", "y.png"]


async def test_accounts_are_found_by_an_index(stage: Stage, accounts: Tables) -> None:
    """Addresses, refresh tokens, sessions and links are looked up, never searched for."""
    postgres = stage.database.dialect == "postgresql"
    no = "false" if postgres else "0"
    lookups = [
        f"{accounts.users.fullname} WHERE email = 'a' AND is_sso_user = {no}",
        f"{accounts.users.fullname} WHERE lower(email) = 'a'",
        f"{accounts.refresh_tokens.fullname} WHERE token = 'a'",
        f"{accounts.sessions.fullname} WHERE user_id = '{uuid.UUID(int=0)}'",
        f"{accounts.one_time_tokens.fullname} WHERE token_hash = 'a'",
        f"{accounts.objects.fullname} WHERE bucket_id = 'a' AND name = 'b'",
    ]
    async with stage.database.write() as connection:
        if postgres:
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
        for lookup in lookups:
            explain = "EXPLAIN" if postgres else "EXPLAIN QUERY PLAN"
            plan = str((await connection.execute(text(f"{explain} SELECT * FROM {lookup}"))).all())
            assert "Index" in plan or "USING INDEX" in plan, plan
            assert "Seq Scan" not in plan, plan
