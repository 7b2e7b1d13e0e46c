"""An application with users, related rows and files, and what a database holds of it.

Rows are read and written by the models: nothing here is shared with what moves them.
"""

import hashlib
import random
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy import Connection, Engine, Row, create_engine, event, insert, make_url, select
from tests import column_models, models

from amphibase import Base, User
from amphibase.blobs.base import key_of
from amphibase.schema.tables import tables

PASSWORD = "correct horse battery"
THEN = datetime(2025, 2, 28, 23, 59, 59, 123456, tzinfo=UTC)
HASH = PasswordHasher(1, 8, 1).hash(PASSWORD)

SAME = ("id", "email", "encrypted_password", "email_confirmed_at", "raw_user_meta_data", "phone")
"""Columns of users that are the same on every side."""


def open_engine(url: str) -> Engine:
    """Open a database, which is SQLite or Postgres."""
    engine = create_engine(make_url(url).set(drivername=_driver(url)))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    return engine


def _driver(url: str) -> str:
    return "postgresql+psycopg" if url.startswith("postgres") else "sqlite"


def fill(url: str, files: Path, *, users: int = 5, rows: int = 20, seed: int = 1) -> None:
    """Write an application's users, rows and files into a prepared database."""
    random_ = random.Random(seed)
    engine = open_engine(url)
    with engine.begin() as connection:
        people = _add_users(connection, users, random_)
        _add_rows(connection, people, rows, random_)
        _add_files(connection, people, files, random_)
    engine.dispose()


def contents(url: str) -> dict[str, list[Any]]:
    """Return all rows of the application's tables, and of users what is the same on every side."""
    engine = open_engine(url)
    own = tables(engine.dialect.name)
    with engine.connect() as connection:
        held: dict[str, list[Any]] = {
            table.name: sorted(
                (_comparable(row) for row in connection.execute(select(table))), key=repr
            )
            for table in Base.metadata.sorted_tables
        }
        accounts = select(*[own.users.c[name] for name in SAME]).order_by(own.users.c.id)
        held["accounts"] = [_comparable(row) for row in connection.execute(accounts)]
        file = own.objects.c
        objects = select(file.bucket_id, file.name, file.owner_id)
        held["files"] = sorted(tuple(row) for row in connection.execute(objects))
    engine.dispose()
    return held


def stored_files(url: str, files: Path) -> dict[str, str]:
    """Return the hash of each file's bytes, which its database finds in a folder."""
    engine = open_engine(url)
    own = tables(engine.dialect.name)
    file = own.objects.c
    query = select(file.bucket_id, file.name, file.version)
    with engine.connect() as connection:
        found = {
            f"{bucket}/{name}": _hash(files / key_of(uuid.UUID(version)))
            for bucket, name, version in connection.execute(query)
        }
    engine.dispose()
    return found


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _comparable(row: Row[Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, uuid.UUID) else value
        for name, value in row._mapping.items()
    }


def _uuid(random_: random.Random) -> uuid.UUID:
    return uuid.UUID(int=random_.getrandbits(128), version=4)


def _text(random_: random.Random) -> str:
    return "".join(random_.choices("abc \n\t\"'\\,äß東🙂%{}", k=random_.randint(0, 30)))


def _add_users(connection: Connection, count: int, random_: random.Random) -> list[uuid.UUID]:
    own = tables(connection.dialect.name)
    people = [_uuid(random_) for _ in range(count)]
    stamps = {"created_at": THEN, "updated_at": THEN}
    for number, id in enumerate(people):
        email = f"user{number}@example.com"
        account = {
            "id": id,
            "email": email,
            "encrypted_password": HASH,
            "email_confirmed_at": THEN,
            "raw_user_meta_data": {"name": f"User {number}", "text": _text(random_)},
            "raw_app_meta_data": {"provider": "email", "providers": ["email"]},
            **stamps,
        }
        identity = {
            "id": _uuid(random_),
            "provider": "email",
            "provider_id": str(id),
            "user_id": id,
            "identity_data": {"sub": str(id), "email": email},
            **stamps,
        }
        connection.execute(insert(own.users).values(account))
        connection.execute(insert(own.identities).values(identity))
        profile = {"id": id, "email": email, "name": f"User {number}", **stamps}
        connection.execute(insert(User).values(profile))
    return people


def _add_rows(
    connection: Connection, people: list[uuid.UUID], count: int, random_: random.Random
) -> None:
    ids: dict[str, list[uuid.UUID]] = {}

    def add(model: Any, **columns: Any) -> None:
        """Add rows; a list is of values to choose from, a function makes one for each row."""
        key = model.__tablename__
        ids[key] = [_uuid(random_) for _ in range(count)]
        values = [
            {
                "id": id,
                **{
                    name: random_.choice(value) if isinstance(value, list) else value()
                    for name, value in columns.items()
                },
            }
            for id in ids[key]
        ]
        connection.execute(insert(model), values)

    def text() -> str:
        return _text(random_)

    def stamp() -> datetime:
        return THEN + timedelta(microseconds=random_.randint(0, 10**12))

    def number() -> int:
        return random_.randint(-(2**31), 2**31 - 1)

    stamps = {"created_at": stamp, "updated_at": stamp}
    owned = {"owner_id": people, **stamps}
    add(models.Note, title=text, stars=number, **owned)
    add(models.Remark, note_id=ids["t_notes"], **owned)
    add(models.Clip, name=text, note_id=[*ids["t_notes"], None], **owned)
    add(
        models.Post,
        title=text,
        body=[None, "", "a\nb"],
        price=lambda: Decimal(number()).scaleb(-2),
        tags=lambda: [text(), text()],
        data=lambda: {"a": [1, None, 0.5, text()], "b": {"c": True}},
        **owned,
    )
    add(models.Comment, text=text, post_id=ids["t_posts"], deleted_at=[None, THEN], **owned)
    add(models.Author, name=text, **stamps)
    add(models.Book, title=text, author_id=[*ids["t_authors"], None], **stamps)
    connection.execute(
        insert(models.Tag), [{"id": id, "name": f"tag {id}"} for id in range(1, count + 1)]
    )
    pairs = {(random_.choice(ids["t_books"]), random_.randint(1, count)) for _ in range(count)}
    connection.execute(
        insert(models.book_tags), [{"book_id": book, "tag_id": tag} for book, tag in pairs]
    )
    connection.execute(
        insert(column_models.Seat),
        [{"row": row, "number": n, "label": text()} for row in range(count) for n in (1, 2)],
    )
    connection.execute(
        insert(column_models.Kinds),
        [
            {
                "text": text(),
                "number": number(),
                "big": number() * 2**31,
                "real": random_.choice([0.1, 1e300, -2.5]),
                "yes": random_.choice([True, False, None]),
                "exact": Decimal(number()).scaleb(-6),
                "moment": stamp(),
                "day": date(1, 1, 1) + timedelta(random_.randint(0, 3_000_000)),
                "clock": time(random_.randint(0, 23), 5, 6, 7),
                "duration": timedelta(microseconds=number()),
                "uid": _uuid(random_),
                "data": random_.randbytes(random_.randint(0, 40)),
                "category": random_.choice(list(models.Category)),
                "level": random_.choice(list(models.Level)),
                "mapping": {"k": text()},
                "words": [text(), "x"],
                "numbers": [1, 2, number()],
            }
            for _ in range(count)
        ],
    )


def _add_files(
    connection: Connection, people: list[uuid.UUID], files: Path, random_: random.Random
) -> None:
    own = tables(connection.dialect.name)
    stamps = {"created_at": THEN, "updated_at": THEN}
    for bucket, public in (("pictures", True), ("papers", False)):
        connection.execute(
            insert(own.buckets).values(id=bucket, name=bucket, public=public, **stamps)
        )
        for number, owner in enumerate(people):
            version, data = _uuid(random_), random_.randbytes(random_.randint(0, 5_000))
            path = files / key_of(version)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            metadata = {
                "eTag": f'"{hashlib.md5(data).hexdigest()}"',
                "size": len(data),
                "mimetype": "image/png",
                "cacheControl": "max-age=60",
                "contentLength": len(data),
                "httpStatusCode": 200,
            }
            connection.execute(
                insert(own.objects).values(
                    id=_uuid(random_),
                    bucket_id=bucket,
                    name=f"{owner}/file {number}.png",
                    owner=owner,
                    owner_id=str(owner),
                    version=str(version),
                    metadata=metadata,
                    user_metadata={"taken": "2024"},
                    **stamps,
                )
            )
