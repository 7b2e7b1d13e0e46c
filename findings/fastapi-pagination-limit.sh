#!/usr/bin/env bash
# What fastapi-pagination makes of a statement that has its own LIMIT or OFFSET: they count for the
# total, and not for the pages.
#
# Seen with fastapi-pagination 0.16.1, SQLAlchemy 2.0.58 on SQLite 3.40.1, seven notes 1 to 7, ordered by
# id, pages of three:
#     select(Note).limit(3)             total 3, 1 page; page 1: 1 2 3; page 2: 4 5 6
#     select(Note).limit(2)             total 2, 1 page; page 1: 1 2 3
#     select(Note).offset(5)            total 2, 1 page; page 1: 1 2 3
# One would guess that what is paged is what the statement selects: "the newest 100", or nothing but
# that. The count is of the statement as a subquery, the page is the statement with limit() and offset()
# called again, which in SQLAlchemy replaces those before. So a page has more items than its own total,
# and what a limit was meant to keep from a caller is on the next page. Put the limit into a
# subquery of the condition instead.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    fastapi-pagination==0.16.1 sqlalchemy==2.0.58

"$folder/venv/bin/python" - <<'PYTHON'
from fastapi_pagination import Page, Params, set_page
from fastapi_pagination.ext.sqlalchemy import paginate
from pydantic import BaseModel
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


class Response(BaseModel, from_attributes=True):
    id: int


engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
ordered = select(Note).order_by(Note.id)
first = ordered.with_only_columns(Note.id).limit(2)
with Session(engine) as session, set_page(Page[Response]):
    session.add_all([Note(id=id) for id in range(1, 8)])
    session.flush()
    for name, statement, number, expected in (
        ("limit 3", ordered.limit(3), 1, (3, 1, [1, 2, 3])),
        ("limit 3", ordered.limit(3), 2, (3, 1, [4, 5, 6])),
        ("limit 2", ordered.limit(2), 1, (2, 1, [1, 2, 3])),
        ("offset 5", ordered.offset(5), 1, (2, 1, [1, 2, 3])),
        ("of a subquery with limit 2", ordered.where(Note.id.in_(first)), 1, (2, 1, [1, 2])),
    ):
        page = paginate(session, statement, Params(page=number, size=3))
        seen = page.total, page.pages, [item.id for item in page.items]
        print(f"{name}, page {number}: total {seen[0]}, pages {seen[1]}, items {seen[2]}")
        assert seen == expected, f"{name}: {seen}"
PYTHON
echo "as described"
