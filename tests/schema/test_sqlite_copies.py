"""Changes of tables on SQLite, which copies them: what a table has survives."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.schema.application import Application
from tests.schema.callers import fetch, run

from amphibase.errors import AmphibaseError, ConfigurationError

HAND_WRITTEN = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    code TEXT COLLATE NOCASE NOT NULL UNIQUE,
    payload ANY,
    quantity INTEGER NOT NULL DEFAULT 1 CHECK (quantity > 0), -- nameless, beside the column
    twice INTEGER GENERATED ALWAYS AS (quantity * 2) STORED, thrice INTEGER AS (quantity * 3),
    parent INTEGER REFERENCES items (id) ON DELETE CASCADE,
    note TEXT,
    CONSTRAINT short CHECK (length(code) < 10 AND code <> 'a, (b'),
    CHECK (note <> 'nameless')
) STRICT
"""

CHANGE = """
    with op.batch_alter_table("items") as batch_op:
        batch_op.alter_column("note", server_default="none")
"""


PREPARATION = (
    HAND_WRITTEN,
    "CREATE TABLE log (what TEXT)",
    "CREATE UNIQUE INDEX ix_lower ON items (lower(note))",
    "CREATE INDEX ix_recent ON items (quantity DESC, code COLLATE BINARY) WHERE note IS NULL",
    "CREATE TRIGGER logged AFTER INSERT ON items BEGIN "
    r"INSERT INTO log VALUES (new.code || '\:x'); END",
    "CREATE VIEW codes AS SELECT code, quantity FROM items",
    "INSERT INTO items (code, payload, parent) VALUES ('a', x'00', NULL), ('b', 'text', 1)",
    "INSERT INTO items (id, code) VALUES (99, 'z')",
    "DELETE FROM items WHERE id = 99",
    "DELETE FROM log",
)


@pytest.fixture
async def items(sqlite_application: Application) -> Application:
    """An application with a table written by hand, in SQL."""
    await sqlite_application.upgrade()
    await run(sqlite_application, *PREPARATION)
    return sqlite_application


async def rejects(application: Application, statement: str) -> bool:
    try:
        await run(application, statement)
    except (AmphibaseError, DBAPIError):
        return True
    return False


async def test_a_copy_keeps_all_that_the_table_has(items: Application) -> None:
    """Collation, AUTOINCREMENT, checks, formula, actions, indexes, triggers, views and rows."""
    items.write("defaults", "0002", CHANGE)
    await items.upgrade()
    await run(items, "INSERT INTO items (code, quantity) VALUES ('c', 4)")
    assert await fetch(items, "SELECT id, code, payload, twice, thrice, note FROM items") == [
        (1, "a", b"\x00", 2, 3, None),
        (2, "b", "text", 2, 3, None),
        (100, "c", None, 8, 12, "none"),
    ]
    assert await fetch(items, "SELECT * FROM log") == [("c:x",)]
    assert await fetch(items, "SELECT count(*) FROM codes") == [(3,)]
    for statement in (
        "INSERT INTO items (code) VALUES ('A')",
        "INSERT INTO items (code) VALUES ('a, (b')",
        "INSERT INTO items (code, quantity) VALUES ('d', 0)",
        "INSERT INTO items (code, note) VALUES ('d', 'nameless')",
        "INSERT INTO items (code, note) VALUES ('d', 'NONE')",
        "INSERT INTO items (code, quantity) VALUES ('d', 'many')",
    ):
        assert await rejects(items, statement), statement
    recent = "SELECT sql FROM sqlite_master WHERE name = 'ix_recent'"
    assert "DESC, code COLLATE BINARY) WHERE note IS NULL" in (await fetch(items, recent))[0][0]
    await run(items, "DELETE FROM items WHERE code = 'A'")
    assert await fetch(items, "SELECT code FROM items") == [("c",)]


async def test_a_copy_follows_the_names_of_renamed_columns(items: Application) -> None:
    """Checks, formula, indexes, trigger and view speak of the new name."""
    rename = """
    with op.batch_alter_table("items") as batch_op:
        batch_op.alter_column("quantity", new_column_name="amount", server_default="2")
        batch_op.alter_column("code", new_column_name="key")
    """
    items.write("names", "0002", rename)
    await items.upgrade()
    await run(items, "INSERT INTO items (key) VALUES ('c')")
    assert await fetch(items, "SELECT key, amount, twice, thrice FROM items") == [
        ("a", 1, 2, 3),
        ("b", 1, 2, 3),
        ("c", 2, 4, 6),
    ]
    assert await fetch(items, "SELECT * FROM log") == [("c:x",)]
    assert await fetch(items, "SELECT count(*) FROM codes") == [(3,)]
    assert await rejects(items, "INSERT INTO items (key, amount) VALUES ('d', 0)")
    assert await rejects(items, "INSERT INTO items (key) VALUES ('A')")


async def test_an_index_goes_with_its_column(items: Application) -> None:
    """As on Postgres; and a revision may create an index over an expression beside a change."""
    change = """
    import sqlalchemy as sa
    with op.batch_alter_table("items") as batch_op:
        batch_op.drop_column("payload")
        batch_op.drop_index("ix_recent")
        batch_op.create_index("ix_upper", [sa.text("upper(note)")], unique=True)
    """
    await run(items, "CREATE INDEX ix_payload ON items (payload)")
    items.write("payload", "0002", change)
    await items.upgrade()
    indexes = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE%INDEX%ix!_%' ESCAPE '!'"
    names = {name for (name,) in await fetch(items, indexes)}
    assert names & {"ix_lower", "ix_upper", "ix_payload", "ix_recent"} == {"ix_lower", "ix_upper"}


@pytest.mark.parametrize(
    ("statement", "change", "message"),
    [
        (
            "CREATE TRIGGER counted AFTER UPDATE ON items BEGIN "
            "DELETE FROM log WHERE what = new.payload; END",
            'batch_op.drop_column("payload")',
            r"trigger .*counted does not fit the changed table items.*no such column: new\.payload",
        ),
        (
            "CREATE VIEW payloads AS SELECT payload FROM items",
            'batch_op.drop_column("payload")',
            "view payloads does not fit the changed table items.*no such column: payload",
        ),
        (
            "CREATE INDEX ix_length ON items (length(payload))",
            'batch_op.drop_column("payload")',
            "index ix_length does not fit the changed table items.*no such column: payload",
        ),
    ],
)
async def test_what_would_not_work_any_more_stops_the_change(
    items: Application, statement: str, change: str, message: str
) -> None:
    """With a sentence that names it; nothing was changed then."""
    await run(items, statement)
    items.write(
        "drop", "0002", f'with op.batch_alter_table("items") as batch_op:\n        {change}'
    )
    with pytest.raises(ConfigurationError, match=message):
        await items.upgrade()
    assert len(await fetch(items, "SELECT payload FROM items")) == 2


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("a TEXT UNIQUE ON CONFLICT REPLACE", "has ON CONFLICT of a, which is lost"),
        ("a TEXT NOT NULL, UNIQUE (a COLLATE NOCASE)", "has COLLATE in a UNIQUE constraint"),
        ("a INTEGER PRIMARY KEY DESC", "has PRIMARY KEY DESC of a"),
        (
            "a INTEGER REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED",
            "has DEFERRABLE beside the column a",
        ),
    ],
)
async def test_a_table_that_a_copy_would_change_is_not_copied(
    sqlite_application: Application, clause: str, message: str
) -> None:
    """The upgrade is rejected before the table is touched."""
    await sqlite_application.upgrade()
    await run(sqlite_application, f"CREATE TABLE odd (b TEXT, {clause})")
    change = 'with op.batch_alter_table("odd") as batch_op:\n        batch_op.drop_column("b")'
    sqlite_application.write("odd", "0002", change)
    with pytest.raises(ConfigurationError, match=message):
        await sqlite_application.upgrade()
    async with sqlite_application.database.read() as connection:
        rows = await connection.execute(text("SELECT b FROM odd"))
        assert rows.all() == []
