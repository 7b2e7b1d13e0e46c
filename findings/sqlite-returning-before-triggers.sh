#!/usr/bin/env bash
# What a column that a trigger fills holds in SQLAlchemy's object after an INSERT on SQLite: NULL,
# also after the commit, where the model says FetchedValue() as SQLAlchemy's docs have it for
# triggers.
#
# Seen with SQLAlchemy 2.1.9, SQLite 3.40.1, slug: Mapped[str | None] with FetchedValue() as
# server_default and server_onupdate, triggers AFTER INSERT and AFTER UPDATE that set slug to
# lower(body):
#     session.add(Note(body="TEA")), commit()   note.slug is None, stored is 'tea'
#     note.body = "MILK", commit()              note.slug is 'milk'
#     insert(Note).returning(Note.slug)         None
#     update(Note).returning(Note.slug)         the slug before
#     the same with implicit_returning=False    note.slug is 'tea', by a SELECT when it is read
# (sessions with expire_on_commit=False, which asyncio needs.)
# One would guess that a value which the server made is fetched as the server made it. SQLAlchemy
# fetches such columns by RETURNING in the INSERT, and after an UPDATE by a SELECT when they are
# read. SQLite fixes the rows of RETURNING before any AFTER trigger runs, and its triggers can
# change a new row in no other way, since BEFORE triggers cannot assign to NEW as those of Postgres
# do. So the same model is right on Postgres; on SQLite a response to POST has no slug, and GET has
# one. Pass {"implicit_returning": False} in __table_args__, or refresh the object after it is
# stored.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import sqlite3

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, declared_attr, mapped_column


class Base(DeclarativeBase):
    pass


class Mixin:
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]

    @declared_attr
    def slug(cls) -> Mapped[str | None]:
        return mapped_column(server_default=sa.FetchedValue(), server_onupdate=sa.FetchedValue())


class Note(Mixin, Base):
    __tablename__ = "note"


class Selected(Mixin, Base):
    __tablename__ = "selected"
    __table_args__ = {"implicit_returning": False}


TRIGGER = """
    CREATE TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN
        UPDATE {table} SET slug = lower(new.body) WHERE id = new.id;
    END
"""


def outcomes(model):
    """Return what the object, then the table, holds after an INSERT and after an UPDATE."""
    with Session(engine, expire_on_commit=False) as session:
        stored = sa.select(sa.type_coerce(model.slug, sa.Text))
        note = model(body="TEA")
        session.add(note)
        session.commit()
        seen = [(note.slug, session.scalar(stored))]
        note.body = "MILK"
        session.commit()
        return [*seen, (note.slug, session.scalar(stored))]


print("sqlalchemy", sa.__version__, "sqlite", sqlite3.sqlite_version)
engine = sa.create_engine("sqlite://")
with engine.begin() as connection:
    Base.metadata.create_all(connection)
    for table in Base.metadata.tables:
        connection.exec_driver_sql(TRIGGER.format(table=table, event="INSERT"))
        connection.exec_driver_sql(TRIGGER.format(table=table, event="UPDATE"))
by_returning, by_select = outcomes(Note), outcomes(Selected)
with Session(engine) as session:
    inserted = session.scalar(sa.insert(Note).values(body="RICE").returning(Note.slug))
    changed = sa.update(Note).where(Note.slug == "rice").values(body="BREAD").returning(Note.slug)
    updated = session.scalar(changed)
print("object and table, after INSERT and UPDATE:", by_returning)
print("the same with implicit_returning=False:   ", by_select)
print("insert().returning():", inserted, " update().returning():", updated)
assert by_returning == [(None, "tea"), ("milk", "milk")], "an INSERT fetches what triggers set"
assert by_select == [("tea", "tea"), ("milk", "milk")]
assert (inserted, updated) == (None, "rice"), "RETURNING sees what triggers set"
PYTHON
