#!/usr/bin/env bash
# What can be restored of the dump that Python makes of an SQLite database with full text search: the
# tables before the search, and not the search.
#
# Seen with CPython 3.11 (sqlite3.Connection.iterdump, SQLite 3.40.1), a table note with two rows and
# an FTS5 table of its titles, the dump run by executescript() on an empty database:
#     executescript()                    OperationalError: no such table: note_fts
#     note                               2 rows, in a transaction that is still open
#     note_fts and its trigger           missing
#     the same dump without FTS5         everything is there
#     Connection.backup(), VACUUM INTO   everything is there, the search too
# One would guess that the dump of a module of the standard library can be read again; the module has
# a branch for virtual tables. It writes their definition as a row of sqlite_master under PRAGMA
# writable_schema, as the shell of SQLite does, and next an INSERT into the virtual table, which the
# connection does not know before it reads the schema again. The shell inserts into the tables below
# it only. Nobody is warned until the backup is needed. Use backup() or VACUUM INTO.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 - <<'PYTHON'
import sqlite3
import sys

TABLE = "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT);"
SEARCH = """
    CREATE VIRTUAL TABLE note_fts USING fts5(title, content='note', content_rowid='id');
    CREATE TRIGGER note_search AFTER INSERT ON note BEGIN
        INSERT INTO note_fts (rowid, title) VALUES (new.id, new.title);
    END;
"""
ROWS = "INSERT INTO note (title) VALUES ('hello world'), ('goodbye');"
FOUND = "SELECT rowid FROM note_fts WHERE note_fts MATCH 'hello'"


def made(script):
    database = sqlite3.connect(":memory:")
    database.executescript(script)
    return database


def count(database):
    return database.execute("SELECT count(*) FROM note").fetchone()[0]


print("Python", sys.version.split()[0], "SQLite", sqlite3.sqlite_version)
plain, searched = made(TABLE + ROWS), made(TABLE + SEARCH + ROWS)
assert searched.execute(FOUND).fetchall() == [(1,)]

restored = sqlite3.connect(":memory:")
restored.executescript("\n".join(plain.iterdump()))
assert (count(restored), restored.in_transaction) == (2, False)

restored = sqlite3.connect(":memory:")
try:
    restored.executescript("\n".join(searched.iterdump()))
except sqlite3.OperationalError as error:
    message = str(error)
else:
    message = "none"
print("error of the dump:", message)
print("rows:", count(restored), "open transaction:", restored.in_transaction)
assert message == "no such table: note_fts", "the dump is restored now"
assert (count(restored), restored.in_transaction) == (2, True)
triggers = restored.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
assert triggers == [], triggers

copied = sqlite3.connect(":memory:")
searched.backup(copied)
searched.execute("VACUUM INTO 'vacuumed.db'")
for database in (copied, sqlite3.connect("vacuumed.db")):
    assert database.execute(FOUND).fetchall() == [(1,)]
    assert count(database) == 2
PYTHON
echo "as described"
