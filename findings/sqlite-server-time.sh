#!/usr/bin/env bash
# What SQLAlchemy compares on SQLite where the database has set a time: a row's own created_at is
# less than itself, so that a list paged by it returns the same row on every page.
#
# Seen with SQLAlchemy 2.1.9, SQLite 3.40.1, CPython 3.11, server_default=func.now(), three notes:
#     stored by the database   '2026-01-01 10:00:03'
#     bound by SQLAlchemy      '2026-01-01 10:00:03.000000'
#     created_at == the value just read                      0 rows of 1
#     created_at >= that value                               0 rows of 1
#     (created_at, id) < those of the last row, one a page   note 3, note 3, note 3, note 3
#     the same where Python has set the time                 note 3, note 2, note 1
# One would guess that a value that was read equals itself, as it does on Postgres. SQLite has no type
# for a time and compares texts. CURRENT_TIMESTAMP writes whole seconds, SQLAlchemy's DateTime binds
# six decimals always (sqlalchemy.dialects.sqlite.DATETIME, storage_format), and a text is less than
# any that continues it; reading accepts both. An application by itself may never notice, as its
# tests compare with other days. Set the time in Python (default=), or let the database write what
# SQLAlchemy binds: server_default=text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))").
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import sqlite3
import time
from datetime import datetime, timedelta

import sqlalchemy as sa

SAME_AS_BOUND = "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


def notes_table(server_default=None):
    return sa.Table(
        "note",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.DateTime, server_default=server_default),
    )


def pages(connection, note, number):
    """Return the keys on the first pages of one row, newest first."""
    keys = []
    statement = sa.select(note).order_by(note.c.created_at.desc(), note.c.id.desc()).limit(1)
    row = connection.execute(statement).first()
    while row is not None and len(keys) < number:
        keys.append(row.id)
        before = sa.tuple_(note.c.created_at, note.c.id) < sa.tuple_(row.created_at, row.id)
        row = connection.execute(statement.where(before)).first()
    return keys


def compare(server_default, insert):
    note = notes_table(server_default)
    with sa.create_engine("sqlite://").connect() as connection:
        note.create(connection)
        insert(connection, note)
        newest = connection.execute(sa.select(note).where(note.c.id == 3)).one()
        equal = note.c.created_at == newest.created_at
        since = note.c.created_at >= newest.created_at
        return (
            len(connection.execute(sa.select(note).where(equal)).all()),
            len(connection.execute(sa.select(note).where(since)).all()),
            pages(connection, note, 4),
        )


def by_the_database(connection, note):
    for key in (1, 2, 3):
        connection.execute(note.insert().values(id=key))
        time.sleep(1.1)


def by_python(connection, note):
    start = datetime(2026, 1, 1, 10)
    for key in (1, 2, 3):
        connection.execute(note.insert().values(id=key, created_at=start + timedelta(seconds=key)))


print("sqlalchemy", sa.__version__, "sqlite", sqlite3.sqlite_version)
seen = {
    "func.now()": compare(sa.func.now(), by_the_database),
    "Python": compare(None, by_python),
    "strftime": compare(sa.text(SAME_AS_BOUND), by_the_database),
}
for name, (equal, since, keys) in seen.items():
    print(f"{name:10} equal: {equal}, since: {since}, pages: {keys}")
assert seen["func.now()"] == (0, 0, [3, 3, 3, 3]), "times of the database equal themselves now"
assert seen["Python"] == (1, 1, [3, 2, 1])
assert seen["strftime"] == (1, 1, [3, 2, 1])
PYTHON
echo "as described"
