"""Revisions of an application's own: written from its models, run, adopted."""

import asyncio
import importlib.util
import subprocess
import sys
import uuid

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Enum,
    ForeignKey,
    Integer,
    String,
    Table,
    Uuid,
    inspect,
    select,
    text,
)
from tests.schema.application import Application, application_on, on_all_chains

from amphibase.errors import (
    ConfigurationError,
    InvalidValue,
    Unavailable,
)
from amphibase.models import utc_now
from amphibase.schema.tables import tables
from amphibase.search import search_index


async def test_a_new_model_becomes_a_revision_that_makes_it(application: Application) -> None:
    """The revision follows the packaged one, upgrades, and leaves no difference."""
    await application.upgrade()
    notes = application.add_notes()
    assert await application.differences() == ["table notes is missing from the database"]
    path = await application.revision("Add notes!")
    assert path is not None
    assert path.parent == application.settings.migrations_dir.absolute()
    assert path.name.endswith("_add_notes.py")
    assert 'down_revision = "0002"' in path.read_text()
    done = await application.upgrade()
    assert [(applied.message, applied.status) for applied in done] == [("Add notes!", "applied")]
    assert await application.differences() == []
    assert await application.revision("again") is None
    owner = uuid.uuid4()
    await application.add(application.models.tables["users"], id=owner, email="ann@example.com")
    await application.add(notes, id=owner, owner_id=owner, title="a", written_at=utc_now())
    with pytest.raises(InvalidValue):
        await application.add(notes, id=uuid.uuid4(), owner_id=owner, title="")


async def test_a_revision_is_written_as_people_would_write_it(application: Application) -> None:
    """The file is clean for ruff, imports what it uses, and does not import the application."""
    application.add_notes()
    first = await application.revision('say "notes"')
    application.models.tables["notes"].append_column(
        Column("stars", Integer(), nullable=False, default=3)
    )
    second = await application.revision("stars")
    empty = await application.revision("by hand", autogenerate=False)
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


@on_all_chains
async def test_the_same_revision_runs_on_both_engines(
    application: Application, sqlite_application: Application, postgres_application: Application
) -> None:
    """What was written on one engine upgrades the other and leaves no difference there."""
    application.add_notes()
    await application.revision("notes")
    other = (
        sqlite_application if application.database.dialect == "postgresql" else postgres_application
    )
    other.add_notes()
    assert len(await other.upgrade()) == 6
    assert await other.differences() == []
    assert await other.revision("again") is None


async def test_a_column_is_added_to_a_table_that_has_rows(application: Application) -> None:
    """Rows get the model's default; what refers to them, and checks, survive the change."""
    notes = application.add_notes()
    await application.revision("notes")
    await application.upgrade()
    owner = uuid.uuid4()
    users = application.models.tables["users"]
    await application.add(users, id=owner, email="ann@example.com")
    await application.add(notes, id=owner, owner_id=owner, title="a", written_at=utc_now())
    notes.append_column(Column("stars", Integer(), nullable=False, default=3))
    notes.append_column(Column("mood", Enum("good", "bad", name="mood")))
    users.append_column(Column("nickname", String(20), nullable=False, default=""))
    users.c.name.type = String(300)
    await application.revision("stars")
    await application.upgrade()
    assert await application.differences() == []
    async with application.database.read() as connection:
        assert (await connection.execute(select(notes.c.stars, notes.c.mood))).all() == [(3, None)]
        assert (await connection.execute(select(users.c.nickname))).all() == [("",)]
    with pytest.raises(InvalidValue):
        await application.add(notes, id=uuid.uuid4(), owner_id=owner, title="")
    await application.downgrade("application", "-1")
    assert await application.count(notes) == 1
    await application.upgrade()
    assert await application.differences() == []


async def test_downgrade_and_upgrade_again_with_an_enum(application: Application) -> None:
    """An enum type that a downgrade leaves behind, or another table uses, is in nobody's way."""
    application.add_notes()
    await application.revision("notes")
    await application.upgrade()
    await application.downgrade("application", "0002")
    kind: Column[str] = Column("kind", Enum("idea", "task", name="kind"))
    Table("plans", application.models, Column("id", Uuid(), primary_key=True), kind)
    await application.revision("plans")
    statuses = [applied.status for applied in await application.upgrade()]
    assert statuses == ["applied", "applied"]
    assert await application.differences() == []


@on_all_chains
async def test_a_model_may_refer_to_accounts(application: Application) -> None:
    """A stand-in for the accounts in the models is for foreign keys, and nobody else's business."""
    postgres = application.database.dialect == "postgresql"
    name, where = ("users", "auth") if postgres else ("auth_users", None)
    accounts = Table(name, application.models, Column("id", Uuid(), primary_key=True), schema=where)
    owner = ForeignKey(accounts.c.id, ondelete="CASCADE")
    pets = Table("pets", application.models, Column("id", Uuid(), owner, primary_key=True))
    await application.ensure()
    path = await application.revision("pets")
    assert path is not None
    assert path.read_text().count("op.create_table(") == 1
    assert [applied.status for applied in await application.upgrade()] == ["stamped"]
    assert await application.differences() == []
    assert await application.revision("again") is None
    user = uuid.uuid4()
    await application.add(tables(application.database.dialect).users, id=user)
    await application.add(pets, id=user)
    async with application.database.write() as connection:
        await connection.execute(accounts.delete())
    assert await application.count(pets) == 0


async def test_what_serve_created_is_adopted(application: Application) -> None:
    """A revision whose table a start in development made already is noted, not run."""
    notes = application.add_notes()
    await application.ensure()
    owner = uuid.uuid4()
    await application.add(application.models.tables["users"], id=owner, email="ann@example.com")
    await application.add(notes, id=owner, owner_id=owner, title="a", written_at=utc_now())
    path = await application.revision("notes")
    assert path is not None
    assert "create_table" in path.read_text()
    done = await application.upgrade()
    assert [applied.status for applied in done] == ["stamped"]
    assert await application.count(notes) == 1
    assert await application.differences() == []
    assert await application.upgrade() == []


async def test_a_revision_that_only_changes_rows_is_run_and_not_adopted(
    application: Application,
) -> None:
    """That the tables are as they should be does not make a revision superfluous."""
    await application.upgrade()
    users = application.models.tables["users"]
    await application.add(users, id=uuid.uuid4(), email="ann@example.com")
    update = "UPDATE users SET name = 'Ann'"
    application.write("names", "0002", f'op.execute("{update}")')
    done = await application.upgrade()
    assert [applied.status for applied in done] == ["applied"]
    async with application.database.read() as connection:
        assert (await connection.execute(select(users.c.name))).scalar_one() == "Ann"


async def test_a_table_that_differs_is_not_adopted(application: Application) -> None:
    """When the table is there but not as the revision makes it, the error says what is missing."""
    application.add_notes()
    await application.ensure()
    application.models.tables["notes"].append_column(Column("stars", Integer()))
    await application.revision("notes")
    with pytest.raises(ConfigurationError, match=r"column notes\.stars is missing"):
        await application.upgrade()
    assert (await application.stand())["application"] == "0002"


async def test_the_profile_may_have_columns_of_its_own(application: Application) -> None:
    """A first start in development makes the profile's table as the application's class says."""
    application.models.tables["users"].append_column(Column("nickname", String(20), nullable=False))
    await application.ensure()
    await application.ensure()
    assert await application.differences() == []
    assert await application.revision("nicknames") is not None
    assert [each.status for each in await application.upgrade()] == ["stamped"]


async def test_a_revision_leaves_no_trace_in_the_database(
    postgres_application: Application,
) -> None:
    """The schema that revisions are run in on Postgres is gone afterwards."""
    postgres_application.add_notes()
    assert await postgres_application.revision("notes") is not None
    async with postgres_application.database.read() as connection:
        schemas = await connection.run_sync(lambda sync: inspect(sync).get_schema_names())
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    assert set(schemas) == {"information_schema", "public"}


async def test_a_revision_without_a_database_is_a_readable_error() -> None:
    """On Postgres the error says why the database is needed."""
    async with application_on("postgresql://ann:hidden@127.0.0.1:1/app") as application:
        application.add_notes()
        with pytest.raises(Unavailable, match="a revision needs the database") as failure:
            await application.revision("notes")
    assert "hidden" not in str(failure.value)


async def test_a_table_with_a_generated_column_can_be_changed(application: Application) -> None:
    """Its rows stay, and the formula goes on to compute the column."""
    lines = Table(
        "lines",
        application.models,
        Column("id", Integer(), primary_key=True),
        Column("quantity", Integer(), nullable=False),
        Column("twice", Integer(), Computed("quantity * 2", persisted=True)),
    )
    await application.revision("lines")
    await application.upgrade()
    await application.add(lines, id=1, quantity=2)
    lines.c.quantity.nullable = True
    await application.revision("optional")
    await application.upgrade()
    await application.add(lines, id=2, quantity=3)
    await application.add(lines, id=3, quantity=None)
    async with application.database.read() as connection:
        rows = await connection.execute(select(lines.c.twice).order_by(lines.c.id))
        assert rows.scalars().all() == [4, 6, None]
    assert await application.differences() == []
    assert await application.revision("again") is None


@pytest.mark.parametrize(
    "change",
    [
        'batch_op.alter_column("description", nullable=False)',
        'batch_op.add_column(sa.Column("description", sa.String(9), nullable=False))',
    ],
)
async def test_a_column_that_rows_have_no_value_for_is_named(
    application: Application, change: str
) -> None:
    """A revision that makes it NOT NULL says what is missing and what to write."""
    await application.upgrade()
    statement = "CREATE TABLE notes (id INTEGER PRIMARY KEY"
    statement += ", description VARCHAR(9))" if "alter" in change else ")"
    async with application.database.write() as connection:
        await connection.execute(text(statement))
        await connection.execute(text("INSERT INTO notes (id) VALUES (1)"))
    batch = 'import sqlalchemy as sa\n    with op.batch_alter_table("notes") as batch_op:\n        '
    application.write("required", "0002", batch + change)
    with pytest.raises(
        ConfigurationError, match=r"rows that exist have no value for .*: give it a server_default"
    ) as failure:
        await application.upgrade()
    if "alter" in change or application.database.dialect == "postgresql":
        assert "notes.description" in str(failure.value)


async def test_a_value_that_the_same_upgrade_adds_to_an_enum_cannot_be_used(
    postgres_application: Application,
) -> None:
    """Postgres forbids it; the error says how to upgrade instead, and that works."""
    await postgres_application.upgrade()
    async with postgres_application.database.write() as connection:
        await connection.execute(text("CREATE TYPE kind AS ENUM ('idea')"))
        await connection.execute(text("CREATE TABLE notes (kind kind)"))
    postgres_application.write("added", "0002", "op.execute(\"ALTER TYPE kind ADD VALUE 'task'\")")
    insert = "op.execute(\"INSERT INTO notes VALUES ('task')\")"
    postgres_application.write("used", "added", insert)
    with pytest.raises(ConfigurationError, match=r"Revision used .*the revision before this one"):
        await postgres_application.upgrade()
    await postgres_application.upgrade(revision="added")
    await postgres_application.upgrade()


async def test_a_table_with_another_check_is_not_adopted(application: Application) -> None:
    """What a start created before the model changed is not what the revision creates."""
    notes = application.add_notes()
    await application.ensure()
    (check,) = [each for each in notes.constraints if isinstance(each, CheckConstraint)]
    notes.constraints.remove(check)
    notes.append_constraint(CheckConstraint("length(title) > 1", name="title"))
    await application.revision("notes")
    with pytest.raises(ConfigurationError, match=r"check ck_notes_title of notes: it should be"):
        await application.upgrade()


async def test_a_check_with_a_percent_sign_comes_through(application: Application) -> None:
    """Alembic renders it doubled for Postgres, and it was doubled again in the database."""
    notes = application.add_notes()
    await application.revision("notes")
    await application.upgrade()
    notes.append_constraint(CheckConstraint("title <> '100%'", name="whole"))
    path = await application.revision("a check")
    assert path is not None
    assert "%%" not in path.read_text()
    await application.upgrade()
    assert await application.differences() == []


async def test_a_search_index_comes_and_goes_by_revisions_of_either_engine(
    application: Application, sqlite_application: Application, postgres_application: Application
) -> None:
    """It is Postgres's alone: a revision that has it runs on SQLite, too."""
    index = search_index("ix_notes_search", "title", "body", language="english")
    application.add_notes().append_constraint(index)
    await application.revision("notes")
    for each in (sqlite_application, postgres_application):
        if each is not application:
            each.add_notes().append_constraint(
                search_index("ix_notes_search", "title", "body", language="english")
            )
        await each.upgrade()
        assert await each.differences() == []
        await each.downgrade("application", "0002")
        await each.upgrade()
        assert await each.revision("again") is None


async def test_a_search_index_of_another_language_is_a_difference(
    postgres_application: Application,
) -> None:
    application = postgres_application
    notes = application.add_notes()
    notes.append_constraint(search_index("ix_notes_search", "title", language="english"))
    await application.revision("notes")
    await application.upgrade()
    notes.indexes = {each for each in notes.indexes if each.name != "ix_notes_search"}
    notes.append_constraint(search_index("ix_notes_search", "title"))
    (difference,) = await application.differences()
    assert difference.startswith("index ix_notes_search of notes: it should be")
    await application.revision("by simple words")
    await application.upgrade()
    assert await application.differences() == []
    await application.downgrade("application", "-1")
    await application.upgrade()
    assert await application.differences() == []


async def test_partitions_belong_to_their_table(postgres_application: Application) -> None:
    """They are no difference, and no revision drops them with their rows."""
    events = Table(
        "events",
        postgres_application.models,
        Column("id", Integer, primary_key=True),
        Column("kind", String, index=True),
        postgresql_partition_by="RANGE (id)",
    )
    assert await postgres_application.revision("Add events") is not None
    await postgres_application.upgrade()
    async with postgres_application.database.write() as connection:
        await connection.execute(
            text("CREATE TABLE events_low PARTITION OF events FOR VALUES FROM (0) TO (10)")
        )
    await postgres_application.add(events, id=1, kind="tea")
    assert await postgres_application.differences() == []
    assert await postgres_application.revision("Nothing") is None
    assert await postgres_application.count(events) == 1
