"""Models of the tests whose columns and keys matter, and not who may use them: types, lengths, keys
of several columns or of rare types."""

import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Numeric,
    SmallInteger,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import Mapped, mapped_column
from tests.models import Category, Level

from amphibase.access import (
    Access,
    authenticated,
    everyone,
)
from amphibase.models import (
    Base,
    ServerOnly,
    uuid7,
)


class Sample(Base):
    """One column of each type that goes in binary where there are many rows."""

    __tablename__ = "t_samples"
    __access__ = Access(read=everyone, write=everyone)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    text: Mapped[str | None]
    short: Mapped[str | None] = mapped_column(String(5))
    number: Mapped[int | None]
    small: Mapped[int | None] = mapped_column(SmallInteger)
    big: Mapped[int | None] = mapped_column(BigInteger)
    real: Mapped[float | None]
    yes: Mapped[bool | None]
    exact: Mapped[Decimal | None]
    moment: Mapped[datetime | None]
    day: Mapped[date | None]
    uid: Mapped[uuid.UUID | None]
    data: Mapped[bytes | None]
    mapping: Mapped[dict[str, Any] | None]


class EveryKind:
    """One column of each type."""

    text: Mapped[str | None]
    short: Mapped[str | None] = mapped_column(String(5))
    number: Mapped[int | None]
    small: Mapped[int | None] = mapped_column(SmallInteger)
    big: Mapped[int | None] = mapped_column(BigInteger)
    real: Mapped[float | None]
    yes: Mapped[bool | None]
    exact: Mapped[Decimal | None]
    money: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    moment: Mapped[datetime | None]
    day: Mapped[date | None]
    clock: Mapped[time | None]
    duration: Mapped[timedelta | None]
    uid: Mapped[uuid.UUID | None]
    data: Mapped[bytes | None]
    category: Mapped[Category | None]
    level: Mapped[Level | None]
    mapping: Mapped[dict[str, Any] | None]
    things: Mapped[list[Any] | None]
    mappings: Mapped[list[dict[str, Any]] | None]
    words: Mapped[list[str] | None]
    numbers: Mapped[list[int] | None]
    reals: Mapped[list[float] | None]
    answers: Mapped[list[bool] | None]


class Wide(ServerOnly, Base):
    """A number of many digits."""

    __tablename__ = "t_wide"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    value: Mapped[Decimal] = mapped_column(Numeric(38, 2))


class Kinds(EveryKind, Base):
    """With a key that the database counts, and never gives to two rows, one after the other."""

    __tablename__ = "t_kinds"
    __table_args__ = ({"sqlite_autoincrement": True},)
    __access__ = Access(read=everyone, write=everyone)

    id: Mapped[int] = mapped_column(primary_key=True, sort_order=-1)


class KeyedKinds(EveryKind, Base):
    """With a key that Python makes, so that the database has nothing to say of a new row."""

    __tablename__ = "t_keyed_kinds"
    __access__ = Access(read=everyone, write=everyone)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-1)


class Seat(Base):
    """A key of two columns."""

    __tablename__ = "t_seats"
    __changes__ = True
    __access__ = Access(read=everyone, write=authenticated)

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(default="")


class TicketNumber(TypeDecorator[str]):
    """A number, which the application writes with a prefix."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and value.removeprefix("T-")

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return value and f"T-{value}"


class Ticket(ServerOnly, Base):
    """A key that the database has in another form."""

    __tablename__ = "t_tickets"
    __changes__ = True

    number: Mapped[str] = mapped_column(TicketNumber, primary_key=True)


class Digest(ServerOnly, Base):
    """A key of bytes."""

    __tablename__ = "t_digests"
    __changes__ = True

    digest: Mapped[bytes] = mapped_column(primary_key=True)


class Dose(ServerOnly, Base):
    """A key of numbers that take many digits."""

    __tablename__ = "t_doses"
    __changes__ = True

    amount: Mapped[Decimal] = mapped_column(primary_key=True)
    factor: Mapped[float] = mapped_column(primary_key=True)


class Receipt(ServerOnly, Base):
    """Refers to a user, and does not go with them."""

    __tablename__ = "t_receipts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"))
