#!/usr/bin/env bash
# What a rollback takes back on SQLite where a statement begins with WITH: nothing. The UPDATE or
# DELETE is committed as it is run.
#
# Seen with CPython 3.11 (sqlite3, SQLite 3.40.1) and SQLAlchemy 2.1.9, three notes, two of them old,
# then rollback():
#     DELETE FROM note WHERE id IN (...)                rowcount 2    3 notes left
#     WITH old AS (...) DELETE FROM note ...            rowcount -1   1 note left
#     delete(Note).where(... select(cte) ...), Session  rowcount -1   1 note left
#     the same with isolation_level=None and a BEGIN of one's own: 3 notes left
# One would guess that a statement which changes rows opens a transaction, whatever its first word,
# and that a Session which was rolled back has changed nothing. By default the module begins a
# transaction only before INSERT, UPDATE, DELETE and REPLACE, and finds them by the first word of the
# text (Modules/_sqlite/statement.c, is_dml); SQLite itself then commits each statement that is not
# in a transaction. The row count is taken for such statements alone. SQLAlchemy leaves BEGIN to the
# driver and renders a common table expression before DELETE, so that one method more on a query
# decides whether the whole unit of work is atomic. Begin yourself: isolation_level=None and an
# event on "begin", or autocommit=False from Python 3.12 on.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sqlalchemy==2.1.9

"$folder/venv/bin/python" - <<'PYTHON'
import platform
import sqlite3

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

PLAIN = "DELETE FROM note WHERE id IN (SELECT id FROM note WHERE id < 3)"
WITH = "WITH old AS (SELECT id FROM note WHERE id < 3) DELETE FROM note WHERE id IN old"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


def by_the_module(statement, isolation_level=""):
    connection = sqlite3.connect(":memory:", isolation_level=isolation_level)
    connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO note VALUES (1), (2), (3)")
    connection.commit()
    if isolation_level is None:
        connection.execute("BEGIN")
    count = connection.execute(statement).rowcount
    connection.rollback()
    return count, connection.execute("SELECT count(*) FROM note").fetchone()[0]


def by_a_session():
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Note(id=1), Note(id=2), Note(id=3)])
        session.commit()
        old = sa.select(Note.id).where(Note.id < 3).cte("old")
        statement = sa.delete(Note).where(Note.id.in_(sa.select(old.c.id)))
        count = session.execute(statement, execution_options={"synchronize_session": False}).rowcount
        session.rollback()
        return count, session.scalar(sa.select(sa.func.count()).select_from(Note))


print("python", platform.python_version(), "sqlite", sqlite3.sqlite_version, "sqlalchemy", sa.__version__)
seen = {
    "DELETE": by_the_module(PLAIN),
    "WITH ... DELETE": by_the_module(WITH),
    "Session": by_a_session(),
    "BEGIN, WITH ... DELETE": by_the_module(WITH, isolation_level=None),
}
for name, (count, left) in seen.items():
    print(f"{name:23} row count {count:2}, after rollback {left} of 3 notes")
assert seen["DELETE"] == (2, 3)
assert seen["WITH ... DELETE"] == (-1, 1), "WITH opens a transaction now"
assert seen["Session"] == (-1, 1), "a common table expression is rolled back now"
assert seen["BEGIN, WITH ... DELETE"] == (-1, 3)
PYTHON
echo "as described"
