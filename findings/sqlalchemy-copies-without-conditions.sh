#!/usr/bin/env bash
# What Table.to_metadata() does to constraints and indexes that are for one dialect alone (ddl_if):
# the copy has them for every dialect.
#
# Seen with SQLAlchemy 2.1.9, create_all() on SQLite of a table with a CHECK, a UNIQUE and an index,
# each with .ddl_if(dialect="postgresql"):
#     metadata of the model   table without the three
#     copy by to_metadata()   table with the three
# One would guess that a copy is created as its original is: to_metadata() carries over names, columns,
# options of dialects (postgresql_using) and what info holds. It builds each constraint and index anew,
# and the condition is not among what it passes on. A model in another schema or MetaData, as the docs
# recommend to_metadata() for, then fails on SQLite at an operator that only Postgres has, or, worse,
# is created with a constraint that nobody wanted there.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import sqlalchemy as sa

note = sa.Table(
    "note",
    sa.MetaData(),
    sa.Column("stars", sa.Integer),
    sa.Column("slug", sa.Text),
    sa.CheckConstraint("stars > 0", name="positive").ddl_if(dialect="postgresql"),
    sa.UniqueConstraint("slug", name="once").ddl_if(dialect="postgresql"),
    sa.Index("by_stars", "stars", postgresql_using="brin").ddl_if(dialect="postgresql"),
)
copy = note.to_metadata(sa.MetaData())
seen = {}
for name, table in (("original", note), ("copy", copy)):
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    table.metadata.create_all(engine)
    there = sa.inspect(engine)
    found = (
        there.get_check_constraints("note")
        + there.get_unique_constraints("note")
        + there.get_indexes("note")
    )
    seen[name] = sorted(str(each["name"]) for each in found)
    print(f"SQLAlchemy {sa.__version__}, {name} on SQLite:", seen[name])
assert seen == {"original": [], "copy": ["by_stars", "once", "positive"]}
PYTHON
