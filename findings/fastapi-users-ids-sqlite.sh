#!/usr/bin/env bash
# What SQLAlchemy's own Uuid sees of the ids that fastapi-users has written to SQLite.
#
# Seen with fastapi-users-db-sqlalchemy 7.0.0 and SQLAlchemy 2.0.58, one user with a UUID as key:
#     stored                          CHAR(36), with hyphens
#     a list by Mapped[uuid.UUID]     the user, with the right id
#     get() or a filter by that id    None
# One would guess that a model either reads a table or does not. Both types are a UUID in Python,
# and reading takes both forms; but what is bound to look one up is 32 digits without hyphens,
# which equals no row. So lists work, tests that compare ids pass, and every request for one row
# is a 404. On Postgres both types are uuid and nothing differs. Keep the library's GUID type for such
# tables on SQLite, or rewrite the column without hyphens together with all that refer to it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    fastapi-users==15.0.5 fastapi-users-db-sqlalchemy==7.0.0 sqlalchemy==2.0.58

cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import uuid
from importlib.metadata import version

from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Written(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Written):
    pass


class Read(DeclarativeBase):
    pass


class SameUser(Read):
    __tablename__ = "user"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str]


id = uuid.UUID("019a0000-0000-7000-8000-000000000001")
engine = create_engine("sqlite:///users.db")
Written.metadata.create_all(engine)
with Session(engine) as session:
    session.add(User(id=id, email="ann@example.com", hashed_password="none"))
    session.commit()
with Session(engine) as session:
    stored = session.execute(text('SELECT id FROM "user"')).scalar_one()
    listed = [user.id for user in session.scalars(select(SameUser))]
    session.expunge_all()
    by_key = session.get(SameUser, id)
    filtered = session.scalar(select(SameUser).where(SameUser.id == id))
print("fastapi-users-db-sqlalchemy", version("fastapi-users-db-sqlalchemy"))
print("stored", stored, "listed", listed == [id], "by key", by_key, "filtered", filtered)
assert (stored, listed, by_key, filtered) == (str(id), [id], None, None), "read otherwise now"
PYTHON
echo "as described"
