"""What an application's models are made of: Base with its type map, timestamps, and the profile."""

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, MetaData, String, Uuid, func, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import JSON, TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names, so that a migration can drop what another made."""


def utc_now() -> datetime:
    """The time now, aware, in UTC, with microseconds."""
    return datetime.now(UTC)


def uuid7() -> uuid.UUID:
    """A new UUID of version 7 (RFC 9562, section 5.7): ordered by its millisecond of birth."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 68) << 64
    return uuid.UUID(int=value | 2 << 62 | random & (1 << 62) - 1)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime on every engine: `timestamptz` on Postgres, UTC text on SQLite.

    A naive datetime is refused with a ValueError, since nobody can know what it means.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime must have a time zone, for example datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
"""JSON: `jsonb` on Postgres, text on SQLite."""


class Base(DeclarativeBase):
    """The base of an application's models: one definition for every home."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        datetime: UtcDateTime(),
        uuid.UUID: Uuid(),
        dict[str, Any]: Json,
    }


class Timestamps:
    """Adds `created_at` and `updated_at`, in UTC; `updated_at` is set by every update."""

    created_at: Mapped[datetime] = mapped_column(default=utc_now, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        default=utc_now, onupdate=utc_now, server_default=func.now()
    )


class User(Timestamps, Base):
    """The profile of an account: what the application knows of a person.

    It is made at sign-up and kept in step with the account (address, ban). Subclass it to add
    columns, and say `Amphibase(user=MyUser)`.
    """

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(255), unique=True, index=True)
    name: Mapped[str] = mapped_column(String(100), default="", server_default="")
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id}, email={self.email!r})"
