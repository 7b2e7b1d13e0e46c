"""What Alembic does not compare: found by a check, written into a revision, run on both engines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Enum,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)
from tests.schema.application import Application
from tests.schema.callers import fetch, run

from amphibase.errors import ConfigurationError, InvalidValue
from amphibase.schema.migrations.enums import EnumChange

LATIN = String(20, collation="C").with_variant(String(20, collation="NOCASE"), "sqlite")


@dataclass(frozen=True)
class Change:
    """A change of a table: its parts before and after, and what `db check` says in between."""

    table: str
    before: Callable[[], list[Any]]
    after: Callable[[], list[Any]]
    difference: str

    def declare(self, models: MetaData, parts: Callable[[], list[Any]]) -> None:
        """Declare the table, again where it is declared already."""
        if self.table in models.tables:
            models.remove(models.tables[self.table])
        Table(
            self.table,
            models,
            Column("id", Integer(), primary_key=True),
            Column("title", String(20)),
            Column("quantity", Integer(), server_default="1"),
            *parts(),
        )


def check(condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name="quantity")


def status(*values: str) -> Column[str]:
    kind = Enum(*values, name="status", native_enum=False, create_constraint=True, length=20)
    return Column("status", kind)


def index(name: str, expression: str, where: str | None = None, unique: bool = False) -> Index:
    condition = text(where) if where else None
    options: dict[str, Any] = {"postgresql_where": condition, "sqlite_where": condition}
    return Index(name, text(expression), unique=unique, **options)


def formula(expression: str) -> list[Any]:
    column = Column("total", Integer(), Computed(expression, persisted=True))
    return [column, Index("ix_total", column)]


CHANGES = [
    Change(
        "added_check",
        list,
        lambda: [check("quantity > 0")],
        "check ck_added_check_quantity of added_check is missing from the database",
    ),
    Change(
        "changed_check",
        lambda: [check("quantity > 0 AND title IN ('a', 'b')")],
        lambda: [check("quantity > 1")],
        "check ck_changed_check_quantity of changed_check: it should be CHECK (",
    ),
    Change(
        "dropped_check",
        lambda: [check("quantity > 0")],
        list,
        "check ck_dropped_check_quantity of dropped_check is in the database alone",
    ),
    Change(
        "changed_values",
        lambda: [status("open")],
        lambda: [status("open", "closed")],
        "check ck_changed_values_status of changed_values: it should be CHECK (",
    ),
    Change(
        "added_index",
        list,
        lambda: [index("ix_added", "lower(title)", unique=True)],
        "index ix_added of added_index is missing from the database",
    ),
    Change(
        "changed_index",
        lambda: [index("ix_changed", "lower(title)")],
        lambda: [index("ix_changed", "upper(title)", unique=True)],
        "index ix_changed of changed_index: it should be UNIQUE ",
    ),
    Change(
        "dropped_index",
        lambda: [index("ix_dropped", "lower(title)")],
        list,
        "index ix_dropped of dropped_index is in the database alone",
    ),
    Change(
        "changed_condition",
        lambda: [index("ix_condition", "title", where="quantity > 0")],
        lambda: [index("ix_condition", "title", where="quantity > 1")],
        "index ix_condition of changed_condition: it should be ",
    ),
    Change(
        "changed_formula",
        lambda: formula("quantity * 2"),
        lambda: formula("quantity * 3"),
        "column changed_formula.total: its formula should be (quantity * 3) STORED, is (quantity "
        "* 2) STORED",
    ),
    Change(
        "added_collation",
        lambda: [Column("code", String(20))],
        lambda: [Column("code", LATIN)],
        "column added_collation.code: its collation should be ",
    ),
    Change(
        "dropped_collation",
        lambda: [Column("code", LATIN)],
        lambda: [Column("code", String(20))],
        "column dropped_collation.code: its collation should be default, is ",
    ),
]


def declare(application: Application, *, changed: bool) -> None:
    for change in CHANGES:
        change.declare(application.models, change.after if changed else change.before)


async def test_changes_are_reported_written_run_and_undone(
    application: Application,
    sqlite_application: Application,
    postgres_application: Application,
) -> None:
    """On the engine on which they were written; and the revisions run on the other one, too."""
    declare(application, changed=False)
    await application.revision("before")
    await application.upgrade()
    assert await application.differences() == []
    for change in CHANGES:
        await run(application, f"INSERT INTO {change.table} (title, quantity) VALUES ('a', 5)")

    declare(application, changed=True)
    differences = await application.differences()
    for change in CHANGES:
        assert [line for line in differences if line.startswith(change.difference)], change.table
    assert len(differences) == len(CHANGES), differences
    file = await application.revision_file("after")
    assert file is not None
    assert file.warnings == ()
    await application.upgrade()
    assert await application.differences() == []
    assert await application.revision("again") is None

    await application.downgrade("application", "-1")
    declare(application, changed=False)
    assert await application.differences() == []
    for change in CHANGES:
        assert await fetch(application, f"SELECT title FROM {change.table}") == [("a",)]

    on_sqlite = application.database.dialect == "sqlite"
    other = postgres_application if on_sqlite else sqlite_application
    declare(other, changed=True)
    assert len(await other.upgrade()) == 4
    assert await other.differences() == []
    await other.downgrade("application", "base")


def kinds(models: MetaData, *values: str, default: str = "idea") -> Table:
    """Declare a table with an enum type and an enum that is text with a check on SQLite."""
    if "notes" in models.tables:
        models.remove(models.tables["notes"])
    kind = Enum(*values, name="kind", create_constraint=True)
    return Table(
        "notes",
        models,
        Column("id", Integer(), primary_key=True),
        Column("kind", kind, nullable=False, server_default=default),
    )


@pytest.mark.parametrize(
    ("values", "default", "statement"),
    [
        (("idea", "plan", "task", "done"), "idea", "ADD VALUE IF NOT EXISTS 'plan' BEFORE 'task'"),
        (("idea", "task", "done"), "done", "CREATE TYPE kind AS ENUM ('idea', 'task', 'done')"),
    ],
)
async def test_the_values_of_an_enum_follow_the_model(
    application: Application,
    sqlite_application: Application,
    postgres_application: Application,
    values: tuple[str, ...],
    default: str,
    statement: str,
) -> None:
    """Written on either engine, run on both, and undone; rows and defaults stay."""
    kinds(application.models, "idea", "task")
    await application.revision("before")
    await application.upgrade()
    on_sqlite = application.database.dialect == "sqlite"
    other = postgres_application if on_sqlite else sqlite_application
    await other.upgrade()

    kinds(application.models, *values, default=default)
    changed = f"its values should be {', '.join(values)}, are idea, task"
    if not on_sqlite:
        assert f"type kind: {changed}" in await application.differences()
    path = await application.revision("after")
    assert path is not None
    assert statement in path.read_text()
    for each in (application, other):
        notes = kinds(each.models, *values, default=default)
        await run(each, "INSERT INTO notes (kind) VALUES ('task')")
        await each.upgrade()
        assert await each.differences() == []
        assert await each.revision("again") is None
        for value in values:
            await each.add(notes, kind=value)
        with pytest.raises(InvalidValue):
            await run(each, "INSERT INTO notes (kind) VALUES ('other')")
        await run(each, "DELETE FROM notes WHERE kind NOT IN ('idea', 'task')")
        await each.downgrade("application", "-1")
        kinds(each.models, "idea", "task")
        assert await each.differences() == []
        assert (await fetch(each, "SELECT count(*) FROM notes WHERE kind = 'task'"))[0][0] == 2


@pytest.mark.parametrize(
    ("expected", "actual", "statements"),
    [
        ("a b c", "a b", ["ALTER TYPE kind ADD VALUE IF NOT EXISTS 'c'"]),
        ("a x b", "a b", ["ALTER TYPE kind ADD VALUE IF NOT EXISTS 'x' BEFORE 'b'"]),
        ("x y b", "b", [f"ALTER TYPE kind ADD VALUE IF NOT EXISTS '{v}' BEFORE 'b'" for v in "xy"]),
        ("b a", "a b", ["CREATE TYPE kind AS ENUM ('b', 'a')"]),
        ("a", "a b", ["CREATE TYPE kind AS ENUM ('a')"]),
    ],
)
def test_a_type_is_replaced_only_where_values_go_or_change_places(
    expected: str, actual: str, statements: list[str]
) -> None:
    """New values are added to it, which copies no table."""
    change = EnumChange("kind", tuple(expected.split()), tuple(actual.split()), ())
    written = change.statements()
    if len(written) > len(statements):  # the old type is renamed before, and dropped after
        written = written[1:-1]
    assert written == statements


async def test_a_possible_rename_is_a_warning_in_the_file(application: Application) -> None:
    """A comparison sees a column go and another come: the file says how to keep the values."""
    models = application.models
    Table("notes", models, Column("id", Integer(), primary_key=True), Column("head", String(9)))
    Table("plans", models, Column("id", Integer(), primary_key=True))
    await application.revision("before")
    await application.upgrade()
    models.remove(models.tables["notes"])
    models.remove(models.tables["plans"])
    Table("notes", models, Column("id", Integer(), primary_key=True), Column("title", String(9)))
    Table("goals", models, Column("id", Integer(), primary_key=True))
    file = await application.revision_file("after")
    assert file is not None
    column, table = file.warnings
    assert 'batch_op.alter_column("head", new_column_name="title") instead of both' in column
    assert 'op.rename_table("plans", "goals") instead' in table
    body = file.path.read_text().partition("def upgrade() -> None:\n")[2]
    comments = [line.strip(" #") for line in body.splitlines() if line.startswith("    #")]
    assert " ".join(comments) == f"{column} {table}"


async def test_a_deferrable_constraint_becomes_an_ordinary_one(
    postgres_application: Application,
) -> None:
    """A difference of unique constraints on Postgres, which SQLite does not know."""

    def declare(**options: Any) -> None:
        if "steps" in postgres_application.models.tables:
            postgres_application.models.remove(postgres_application.models.tables["steps"])
        Table(
            "steps",
            postgres_application.models,
            Column("id", Integer(), primary_key=True),
            Column("place", Integer()),
            Column("name", String(20)),
            UniqueConstraint("place", **options),
            Index("ix_name", "name", postgresql_include=["place"] if options else []),
        )

    deferred: dict[str, Any] = {"deferrable": True, "initially": "DEFERRED"}
    declare(**deferred)
    await postgres_application.revision("before")
    await postgres_application.upgrade()
    declare()
    assert await postgres_application.differences() == [
        "unique constraint uq_steps_place of steps: it should be UNIQUE (place), is UNIQUE (place) "
        "DEFERRABLE INITIALLY DEFERRED",
        "index ix_name of steps: it should be btree (name), is btree (name) INCLUDE (place)",
    ]
    await postgres_application.revision("after")
    await postgres_application.upgrade()
    assert await postgres_application.differences() == []
    await postgres_application.downgrade("application", "-1")
    declare(**deferred)
    assert await postgres_application.differences() == []


async def test_what_no_revision_can_write_is_named(sqlite_application: Application) -> None:
    """The check stays red until it is done by hand."""
    models = sqlite_application.models
    Table("notes", models, Column("id", Integer(), primary_key=True))
    await sqlite_application.revision("before")
    await sqlite_application.upgrade()
    models.remove(models.tables["notes"])
    Table("notes", models, Column("id", Integer(), primary_key=True), sqlite_autoincrement=True)
    assert await sqlite_application.differences() == ["table notes: it should be AUTOINCREMENT"]
    with pytest.raises(ConfigurationError, match=r"by hand: option AUTOINCREMENT of notes"):
        await sqlite_application.revision("after")


async def test_what_cannot_be_compared_is_named(postgres_application: Application) -> None:
    """A model that Postgres cannot create beside the table is a difference, not a tick."""
    Table("notes", postgres_application.models, Column("id", Integer(), primary_key=True))
    await postgres_application.ensure()
    postgres_application.models.remove(postgres_application.models.tables["notes"])
    Table(
        "notes",
        postgres_application.models,
        Column("id", Integer(), primary_key=True),
        CheckConstraint("missing_function(id)", name="missing"),
    )
    assert await postgres_application.differences() == [
        "table notes was not compared wholly: function missing_function(integer) does not exist"
    ]
