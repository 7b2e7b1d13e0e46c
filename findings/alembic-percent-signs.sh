#!/usr/bin/env bash
# What Alembic writes into a revision for a check with a percent sign: two of them, on Postgres.
#
# Seen with Alembic 1.20.1 and SQLAlchemy 2.1.9, rendered for the dialects of psycopg and SQLite:
#     in the model        in the revision, psycopg    in the revision, SQLite
#     title <> '100%'     title <> '100%%'            title <> '100%'
# One would guess that a revision holds the expression of the model. Alembic renders it with the
# dialect's compiler, which doubles percent signs because psycopg reads them as placeholders, and
# sa.text() of the revision is compiled once more when it runs. The driver takes back one of the two
# doublings: the table gets a check on '100%%'. A LIKE pattern means the same with two of them, so
# that it is seen by nobody; an equality or a regular expression does not. With asyncpg's dialect,
# which has other placeholders, the revision is right.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check alembic==1.20.1 sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import sqlalchemy as sa
from alembic.autogenerate import render_python_code
from alembic.migration import MigrationContext
from alembic.operations import ops
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.dialects.sqlite import pysqlite

print("Alembic", version("alembic"), "SQLAlchemy", version("sqlalchemy"))
check = sa.CheckConstraint("title <> '100%'", name="whole")
create = ops.CreateTableOp("notes", [sa.Column("title", sa.Text), check])
for name, dialect in (("psycopg", psycopg), ("asyncpg", asyncpg), ("SQLite", pysqlite)):
    context = MigrationContext.configure(dialect=dialect.dialect())
    code = render_python_code(ops.UpgradeOps([create]), migration_context=context)
    (line,) = [line.strip() for line in code.splitlines() if "100" in line]
    print(f"{name:8} {line}")
PYTHON
