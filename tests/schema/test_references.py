"""References to rows that their callers see, as the database itself enforces them."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import ForeignKey, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column
from tests.schema.application import Application
from tests.schema.callers import CALLERS, calling, fetch, models_of, note_in, run, url_of

from amphibase.access import Access, Add, authenticated, everyone, owner

VISIBLE = {"references": "visible"}


@pytest.fixture
async def pins(guarded: Application) -> Any:
    """Notes 1 of Ann and 2 of Bob, and the model of pins on them, as a revision creates them."""
    note = note_in(guarded, Access(read=owner, write=owner))
    note.__table__.append_constraint(UniqueConstraint("id", "title"))

    class Pin(models_of(guarded)):  # type: ignore[misc]
        __tablename__ = "pins"
        __access__ = Access(
            read=authenticated, add=Add(everyone, visible=False), change=authenticated
        )
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        note_id: Mapped[int | None] = mapped_column(ForeignKey("notes.id"), info=VISIBLE)
        twin_id: Mapped[int | None] = mapped_column(info=VISIBLE)
        title: Mapped[str | None]
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("pins.id"), info=VISIBLE)
        __table_args__ = (
            ForeignKeyConstraint(["twin_id", "title"], ["notes.id", "notes.title"], name="twins"),
        )

    guarded.models.info["kept"].append(Pin)
    await guarded.revision("pins")
    await guarded.upgrade()
    assert await guarded.differences() == []
    for id, name in ((1, "ann"), (2, "bob")):
        await run(
            guarded,
            f"INSERT INTO notes (id, owner_id, title) VALUES ({id}, '{CALLERS[name].id}', 'tea')",
        )
    return Pin


def rejected(application: Application, caller: str, columns: str, values: str) -> dict[str, Any]:
    """What the error tells of a row that is not added."""
    with (
        calling(url_of(application), CALLERS[caller]) as connection,
        pytest.raises(psycopg.errors.ForeignKeyViolation) as caught,
    ):
        connection.execute(f"INSERT INTO pins ({columns}) VALUES ({values})".encode())
    diag = caught.value.diag
    return {name: getattr(diag, name) for name in dir(diag) if name.startswith(FIELDS)}


FIELDS = ("sqlstate", "message_", "severity", "schema_", "table_", "column_", "constraint_")


@pytest.mark.usefixtures("pins")
@pytest.mark.parametrize("caller", ["ann", "bob", "nobody"])
async def test_an_invisible_row_is_rejected_like_a_missing_one(
    guarded: Application, caller: str
) -> None:
    hidden = {"ann": 2, "bob": 1, "nobody": 1}[caller]
    for columns, values, constraint in (
        ("id, note_id", "1, {}", "fk_pins_note_id"),
        ("id, twin_id, title", "1, {}, 'tea'", "twins"),
    ):
        missing = rejected(guarded, caller, columns, values.format(99))
        assert rejected(guarded, caller, columns, values.format(hidden)) == missing
        assert missing["constraint_name"] == constraint
        assert missing["message_detail"] == 'Key is not present in table "notes".'


@pytest.mark.usefixtures("pins")
async def test_each_reference_is_checked_when_it_is_set_or_changes(guarded: Application) -> None:
    await run(guarded, "INSERT INTO pins (id, note_id) VALUES (1, 1), (2, NULL)")
    ours, theirs = "note_id = 2", "note_id = 1"
    for statement, is_done in (
        (f"UPDATE pins SET {theirs}, title = 'new' WHERE id = 1", True),
        (f"UPDATE pins SET {theirs}", False),
        (f"UPDATE pins SET {ours}", True),
        ("UPDATE pins SET twin_id = 1, title = 'tea'", False),
        ("UPDATE pins SET twin_id = 1, title = NULL", True),  # which refers to none
        ("UPDATE pins SET note_id = NULL, twin_id = 2, title = 'tea'", True),
        ("INSERT INTO pins (id, parent_id) VALUES (4, 3), (3, 1)", True),
        ("INSERT INTO pins (id, note_id) VALUES (1, 2) ON CONFLICT DO NOTHING", True),
    ):
        with calling(url_of(guarded), CALLERS["bob"]) as connection:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.ForeignKeyViolation:
                assert not is_done, statement
            else:
                assert is_done, statement


async def test_what_differs_is_reported_made_right_and_taken_back(
    guarded: Application, pins: Any
) -> None:
    triggers = "SELECT tgname::text FROM pg_trigger WHERE tgname LIKE 'amphibase_pins%' ORDER BY 1"
    names = [("amphibase_pins_references",), ("amphibase_pins_tree",)]
    assert await fetch(guarded, triggers) == names
    for statement in (
        "DROP TRIGGER amphibase_pins_tree ON pins",
        "ALTER FUNCTION amphibase_pins_references() VOLATILE",
        "ALTER TABLE pins DISABLE TRIGGER amphibase_pins_references",
        "CREATE OR REPLACE TRIGGER amphibase_pins_references AFTER INSERT ON pins FOR EACH ROW "
        "EXECUTE FUNCTION amphibase_pins_references()",
    ):
        await run(guarded, statement)
        (difference,) = await guarded.differences()
        assert difference.startswith("trigger amphibase_pins_")
        await guarded.ensure()
        assert await guarded.differences() == []
    pins.__table__.c.parent_id.info = {"references": "any"}
    assert await guarded.differences() == [
        "trigger amphibase_pins_tree of pins is in the database alone"
    ]
    await guarded.revision("any parent")
    await guarded.upgrade()
    assert await fetch(guarded, triggers) == names[:1]
    assert await fetch(guarded, "SELECT FROM pg_proc WHERE proname = 'amphibase_pins_tree'") == []
    await guarded.downgrade("application", "-1")
    assert await fetch(guarded, triggers) == names
