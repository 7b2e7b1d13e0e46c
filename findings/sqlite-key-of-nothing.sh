#!/usr/bin/env bash
# What SQLAlchemy reports on SQLite as the key of a row that an INSERT did not add: the key of the
# connection's last new row, in whichever table.
#
# Seen with SQLAlchemy 2.1.9, SQLite 3.40.1, a tag "tea" with the key 1, then six rows in another
# table, then inserts of "tea" again on the same connection, result.inserted_primary_key:
#     on_conflict_do_nothing()      (6,)   rowcount 0
#     prefix_with("OR IGNORE")      (6,)   rowcount 0
#     on_conflict_do_update(...)    (6,)   rowcount 1, the row that was updated has the key 1
#     the same with .returning(id)  no row, no row, 1
# One would guess None, and 1 for the update, as SQLAlchemy reports on Postgres. There it asks by
# RETURNING; on SQLite an insert of one row takes cursor.lastrowid, which is sqlite3_last_insert_rowid
# of the whole connection: an insert that adds nothing leaves it as it was, and so does the update of
# an upsert. "Get or create" written in this way links the tag of six other things, without an error
# wherever a tag of that number exists. Use returning(), which also says that nothing was added.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import sqlite3

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

metadata = sa.MetaData()
note = sa.Table("note", metadata, sa.Column("id", sa.Integer, primary_key=True))
tag = sa.Table(
    "tag",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, unique=True),
)
tea = insert(tag).values(name="tea")
STATEMENTS = {
    "do nothing": tea.on_conflict_do_nothing(),
    "OR IGNORE": sa.insert(tag).prefix_with("OR IGNORE").values(name="tea"),
    "do update": tea.on_conflict_do_update(index_elements=["name"], set_={"name": "tea"}),
}

print("sqlalchemy", sa.__version__, "sqlite", sqlite3.sqlite_version)
engine = sa.create_engine("sqlite://")
metadata.create_all(engine)
seen = {}
with engine.begin() as connection:
    first = connection.execute(tea).inserted_primary_key
    for _ in range(6):
        connection.execute(note.insert())
    for name, statement in STATEMENTS.items():
        result = connection.execute(statement)
        returned = connection.execute(statement.returning(tag.c.id)).scalars().all()
        seen[name] = (tuple(result.inserted_primary_key), result.rowcount, returned)
        print(f"{name:10} inserted_primary_key {seen[name][0]}, rowcount {result.rowcount},", end=" ")
        print("returning", returned)
    tags = connection.execute(sa.select(tag.c.id)).scalars().all()
print("tags:", tags)
assert tuple(first) == (1,) and tags == [1]
assert seen["do nothing"] == ((6,), 0, []), "an insert that did nothing has no key now"
assert seen["OR IGNORE"] == ((6,), 0, []), "an insert that was ignored has no key now"
assert seen["do update"] == ((6,), 1, [1]), "an upsert reports the key of its row now"
PYTHON
echo "as described"
