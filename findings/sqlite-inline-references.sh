#!/usr/bin/env bash
# What a batch migration of Alembic takes from a foreign key on SQLite: ON DELETE, ON UPDATE and
# DEFERRABLE, where the column itself says REFERENCES. Alembic writes that form too.
#
# Seen with Alembic 1.20.1, SQLAlchemy 2.1.9, SQLite 3.40.1, CPython 3.11, without a warning:
#     REFERENCES after the column:   on_delete before CASCADE, after NO ACTION
#     op.add_column(..., inline_references=True):      CASCADE, after NO ACTION
#     FOREIGN KEY after the columns:                   CASCADE, after CASCADE
#     deleting the account afterwards: FOREIGN KEY constraint failed
# One would guess that both spellings are one foreign key, as they are for SQLite: PRAGMA
# foreign_key_list reports the same action for each. SQLAlchemy's reflection takes the key from that
# PRAGMA, but its name and its options from a regular expression over the text of CREATE TABLE
# (get_foreign_keys in sqlalchemy/dialects/sqlite/base.py), which begins with FOREIGN KEY. A batch
# migration creates the new table from what was reflected. So tables made by hand, by other tools or
# by Alembic's own add_column lose the action in the first migration of any other column, and a copy
# made with MetaData.reflect() and create_all() never has it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    alembic==1.20.1 sqlalchemy==2.1.9

"$folder/venv/bin/python" -W error - <<'PYTHON'
import sqlite3

import alembic
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations


def in_the_column(connection, operations):
    connection.exec_driver_sql(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT,"
        " account_id INTEGER REFERENCES account (id) ON DELETE CASCADE)"
    )


def by_add_column(connection, operations):
    connection.exec_driver_sql("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)")
    key = sa.ForeignKey("account.id", ondelete="CASCADE")
    column = sa.Column("account_id", sa.Integer, key)
    operations.add_column("note", column, inline_references=True)


def in_the_table(connection, operations):
    connection.exec_driver_sql(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT, account_id INTEGER,"
        " FOREIGN KEY (account_id) REFERENCES account (id) ON DELETE CASCADE)"
    )


def on_delete(connection):
    (key,) = connection.exec_driver_sql("PRAGMA foreign_key_list(note)").mappings()
    return key["on_delete"]


def outcome_of_delete(connection):
    try:
        connection.exec_driver_sql("DELETE FROM account")
    except sa.exc.IntegrityError as error:
        return str(error.orig)
    return "deleted with its notes"


def migrate(create):
    with sa.create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        operations = Operations(MigrationContext.configure(connection))
        connection.exec_driver_sql("CREATE TABLE account (id INTEGER PRIMARY KEY)")
        create(connection, operations)
        connection.exec_driver_sql("INSERT INTO account VALUES (1)")
        connection.exec_driver_sql("INSERT INTO note (body, account_id) VALUES ('text', 1)")
        before = on_delete(connection)
        with operations.batch_alter_table("note") as batch:
            batch.alter_column("body", existing_type=sa.Text, nullable=False)
        return before, on_delete(connection), outcome_of_delete(connection)


print("alembic", alembic.__version__, "sqlalchemy", sa.__version__, "sqlite", sqlite3.sqlite_version)
seen = {create.__name__: migrate(create) for create in (in_the_column, by_add_column, in_the_table)}
for name, (before, after, outcome) in seen.items():
    print(f"{name:14} before {before}, after {after}; delete of the account: {outcome}")
lost = ("CASCADE", "NO ACTION", "FOREIGN KEY constraint failed")
assert seen["in_the_column"] == lost, "REFERENCES in the column keeps its action now"
assert seen["by_add_column"] == lost, "inline_references keeps its action now"
assert seen["in_the_table"] == ("CASCADE", "CASCADE", "deleted with its notes")
PYTHON
echo "as described"
