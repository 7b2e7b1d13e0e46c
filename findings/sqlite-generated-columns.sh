#!/usr/bin/env bash
# What SQLAlchemy reflects as the formula of a generated column on SQLite: that and the rest of the
# line, or nothing. Two migrations of Alembic that each add such a column are enough: the third
# migration of the table, of whichever column, fails.
#
# Seen with SQLAlchemy 2.1.9, Alembic 1.20.1, SQLite 3.40.1, CPython 3.11:
#     CREATE TABLE, the column on a line of its own             upper(name)
#     CREATE TABLE on one line                                  upper(name)) STORED, size INTEGER, CHECK (id > 0
#     AS (upper(name)), without GENERATED ALWAYS                (empty)
#     GENERATED ALWAYS AS ( and the formula on the next line    (empty)
#     the first of two add_column of Alembic    upper(name)), low TEXT GENERATED ALWAYS AS (lower(name)
#     batch_alter_table afterwards: duplicate column name: low
# One would guess that a formula ends at its closing parenthesis, and that what SQLite takes for a
# generated column (PRAGMA table_xinfo reports each of them) is one for SQLAlchemy. It takes the
# columns from that PRAGMA and the formula from a regular expression over the text of CREATE TABLE
# (get_columns in sqlalchemy/dialects/sqlite/base.py), which needs the words GENERATED ALWAYS AS and
# reads to the last closing parenthesis of the line. ALTER TABLE ADD COLUMN writes each column at the
# end of that text, on one line with the one before. The reflected table cannot be created: neither
# by MetaData.reflect() and create_all(), nor by a batch migration, which copies the table so.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    alembic==1.20.1 sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import sqlite3

import alembic
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

FORMS = {
    "on a line of its own": """CREATE TABLE note (
        id INTEGER PRIMARY KEY, name TEXT,
        up TEXT GENERATED ALWAYS AS (upper(name)) STORED,
        size INTEGER, CHECK (id > 0))""",
    "on one line": "CREATE TABLE note (id INTEGER PRIMARY KEY, name TEXT,"
    " up TEXT GENERATED ALWAYS AS (upper(name)) STORED, size INTEGER, CHECK (id > 0))",
    "AS alone": """CREATE TABLE note (
        id INTEGER PRIMARY KEY, name TEXT,
        up TEXT AS (upper(name)),
        size INTEGER)""",
    "formula on the next line": """CREATE TABLE note (
        id INTEGER PRIMARY KEY, name TEXT,
        up TEXT GENERATED ALWAYS AS (
            upper(name)),
        size INTEGER)""",
}
EXPECTED = {
    "on a line of its own": ("upper(name)", True),
    "on one line": ("upper(name)) STORED, size INTEGER, CHECK (id > 0", False),
    "AS alone": ("", False),
    "formula on the next line": ("", False),
}


def formulas(connection):
    columns = sa.inspect(connection).get_columns("note")
    return {each["name"]: each["computed"]["sqltext"] for each in columns if "computed" in each}


def copy_is_created(connection):
    metadata = sa.MetaData()
    sa.Table("note", metadata, autoload_with=connection)
    try:
        metadata.create_all(sa.create_engine("sqlite://"))
    except sa.exc.OperationalError:
        return False
    return True


print("SQLAlchemy", sa.__version__, "Alembic", alembic.__version__, "SQLite", sqlite3.sqlite_version)
seen = {}
for name, statement in FORMS.items():
    with sa.create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql("INSERT INTO note (id, name) VALUES (1, 'ann')")
        assert connection.exec_driver_sql("SELECT up FROM note").scalar() == "ANN"
        seen[name] = (formulas(connection)["up"], copy_is_created(connection))
    print(f"{name:26}", *seen[name])
assert seen == EXPECTED, "generated columns are reflected otherwise now"

with sa.create_engine("sqlite://").connect() as connection:
    operations = Operations(MigrationContext.configure(connection))
    columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text)]
    operations.create_table("note", *columns)
    for name, formula in (("up", "upper(name)"), ("low", "lower(name)")):
        operations.add_column("note", sa.Column(name, sa.Text, sa.Computed(formula)))
    reflected = formulas(connection)
    print("two add_column", reflected)
    assert reflected["low"] == "lower(name)", "the last one is reflected otherwise now"
    assert reflected["up"].startswith("upper(name)),"), "the first one is whole now"
    try:
        with operations.batch_alter_table("note") as batch:
            batch.alter_column("name", nullable=False)
    except sa.exc.OperationalError as error:
        print("batch_alter_table:", error.orig)
    else:
        raise AssertionError("the batch migration works now")
PYTHON
echo "as described"
