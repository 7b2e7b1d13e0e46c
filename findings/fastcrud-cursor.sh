#!/usr/bin/env bash
# What FastCRUD's pages by cursor leave out, and where they begin again: rows that share the value of
# a page's last row, and after a page that ends with 0.
#
# Seen with fastcrud 0.23.0, SQLAlchemy 2.1.9 on SQLite 3.40.1, six notes with 5, 3, 3, 3, 1, 0 stars,
# get_multi_by_cursor(limit=2, sort_column="stars", sort_order="desc"), each page with the
# next_cursor of the one before:
#     page 1   notes 1 and 2 (5, 3 stars)   next_cursor 3
#     page 2   notes 5 and 6 (1, 0 stars)   next_cursor 0
#     page 3   notes 1 and 2 again; notes 3 and 4 are on no page
#     by id    1 2, 3 4, 5 6, then an empty page
# One would guess that pages by cursor hold each row once, as they do by id, and that a non-unique
# column is combined with the key: the documentation pages by a date of registration and asks for no
# more than an index. The cursor is the value of the last row and the condition column < cursor
# (get_multi_by_cursor in crud/fast_crud.py), which all rows of that value fail; and a cursor that is
# false in Python is no cursor (if cursor:). Rows that one transaction inserted share their time, so
# that an export by created_at lacks some of them. Page by a unique column whose values are true.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    fastcrud==0.23.0 "sqlalchemy[asyncio]==2.1.9" aiosqlite==0.22.1

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from fastcrud import FastCRUD
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

STARS = (5, 3, 3, 3, 1, 0)


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    stars: Mapped[int]


async def pages(session, number, **order):
    """Return the keys on the first pages, and the cursors after them."""
    seen, cursor = [], None
    for _ in range(number):
        page = await FastCRUD(Note).get_multi_by_cursor(session, cursor=cursor, limit=2, **order)
        cursor = page["next_cursor"]
        seen.append(([row["id"] for row in page["data"]], cursor))
    return seen


async def main():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all([Note(id=key, stars=stars) for key, stars in enumerate(STARS, 1)])
        await session.commit()
        by_stars = await pages(session, 3, sort_column="stars", sort_order="desc")
        by_id = await pages(session, 4)
    await engine.dispose()
    return by_stars, by_id


print("fastcrud", version("fastcrud"), "sqlalchemy", version("sqlalchemy"))
by_stars, by_id = asyncio.run(main())
print("by stars:", by_stars)
print("by id:   ", by_id)
assert by_stars == [([1, 2], 3), ([5, 6], 0), ([1, 2], 3)], "pages hold each row once now"
assert by_id == [([1, 2], 2), ([3, 4], 4), ([5, 6], 6), ([], None)]
PYTHON
echo "as described"
