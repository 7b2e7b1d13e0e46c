#!/usr/bin/env bash
# What replacement_traverse of SQLAlchemy does to the criterion of `has()` and `any()`: nothing.
#
# Seen with SQLAlchemy 2.1.9, every column `name` replaced by lower(nick), every value "a" by "b":
#     expression                                            replaced     iterate() finds them
#     Team.name == "a"                                      both         both
#     exists().where(Team.id == Note.team_id,
#                    Team.name == "a")                      both         both
#     Note.team.has(Team.name == "a")                       neither      both
# One would guess that the three are alike, since has() is documented as an EXISTS, and that what
# visitors.iterate() shows of an expression is what visitors.replacement_traverse() replaces in it.
# The ORM marks the criterion of a relationship's comparison as not to be adapted, so that
# of_type() and aliases do not turn its columns around; the function obeys the mark and
# returns the old criterion in a new EXISTS, without an error. So code that rewrites filters, for another
# table, a tenant's schema or other values, leaves exactly those of relationships as they were. Write
# the exists() out where a filter is to be rewritten, or compare iterate() of the result.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.sql import visitors


class Base(DeclarativeBase):
    pass


class Team(Base):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int] = mapped_column(sa.ForeignKey("team.id"))
    team: Mapped[Team] = relationship()


def is_name(element):
    return isinstance(element, sa.Column) and element.name == "name"


def is_value(element):
    return isinstance(element, sa.BindParameter) and element.value == "a"


def replace(element, **_):
    if is_name(element):
        return sa.func.lower(sa.column("nick"))
    return sa.literal("b") if is_value(element) else None


EXPRESSIONS = {
    "==": Team.name == "a",
    "exists()": sa.exists().where(Team.id == Note.team_id, Team.name == "a"),
    "has()": Note.team.has(Team.name == "a"),
}
print("SQLAlchemy", sa.__version__)
for name, expression in EXPRESSIONS.items():
    parts = list(visitors.iterate(expression))
    assert any(map(is_name, parts)) and any(map(is_value, parts))
    compiled = visitors.replacement_traverse(expression, {}, replace).compile()
    seen = "lower(nick)" in str(compiled), [*compiled.params.values()]
    print(f"{name:10}", *seen)
    assert seen == ((False, ["a"]) if name == "has()" else (True, ["b"]))
PYTHON
