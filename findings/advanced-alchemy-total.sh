#!/usr/bin/env bash
# What Advanced Alchemy counts on a page beyond the last one: a total of 0, though the table has rows.
#
# Seen with advanced-alchemy 1.12.0, SQLAlchemy 2.1.9 on SQLite 3.40.1, five rows, two a page:
#     offset 0     2 rows, total 5
#     offset 10    0 rows, total 0
#     a page of 0  0 rows, total 0    (LimitOffset(0, 0), to ask for the total alone)
#     the same three with count_with_window_function=False: total 5
# One would guess that the total of list_and_count does not depend on the page. By default it comes
# from one statement, count(...) OVER () in a column beside the rows, and LIMIT and OFFSET take rows
# away after the window is computed: without a row there is nothing to read the total from, and it
# stays at its initial 0. A list from whose last page rows are deleted tells its reader that
# everything is gone, and a client that works out the number of pages from the total does not find
# its way back. Pass count_with_window_function=False, or count again where a page is empty and its
# offset is not 0.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    advanced-alchemy==1.12.0 sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from advanced_alchemy.base import BigIntBase
from advanced_alchemy.filters import LimitOffset, OrderBy
from advanced_alchemy.repository import SQLAlchemySyncRepository
from sqlalchemy import create_engine
from sqlalchemy.orm import Mapped, Session

PAGES = {"first": LimitOffset(2, 0), "beyond": LimitOffset(2, 10), "empty": LimitOffset(0, 0)}


class Note(BigIntBase):
    title: Mapped[str]


class Notes(SQLAlchemySyncRepository[Note]):
    model_type = Note


def counts(repository, **options):
    """Return the number of rows and the total of each page."""
    seen = {}
    for name, page in PAGES.items():
        rows, total = repository.list_and_count(page, OrderBy("id"), **options)
        seen[name] = (len(rows), total)
    return seen


print("advanced-alchemy", version("advanced-alchemy"), "sqlalchemy", version("sqlalchemy"))
engine = create_engine("sqlite://")
Note.metadata.create_all(engine)
with Session(engine) as session:
    repository = Notes(session=session)
    repository.add_many([Note(title=f"note {number}") for number in range(5)])
    by_window = counts(repository)
    by_two_statements = counts(repository, count_with_window_function=False)
print("(rows, total) by default:         ", by_window)
print("(rows, total) with two statements:", by_two_statements)
assert by_window == {"first": (2, 5), "beyond": (0, 0), "empty": (0, 0)}, "an empty page has a total"
assert by_two_statements == {"first": (2, 5), "beyond": (0, 5), "empty": (0, 5)}
PYTHON
echo "as described"
