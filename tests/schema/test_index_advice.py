"""What `db check` says about the indexes and unique constraints of models under access rules."""

import enum
import uuid
from decimal import Decimal

from sqlalchemy import Enum, ForeignKey, Index, MetaData, UniqueConstraint, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from amphibase.access import Access, admin, authenticated, memberships, owner, through
from amphibase.models import NAMING, Base, Timestamps
from amphibase.schema.index_advice import bypassed_indexes, index_advice


def new_base() -> type[DeclarativeBase]:
    class Models(DeclarativeBase):
        metadata = MetaData(naming_convention=NAMING)
        type_annotation_map = Base.type_annotation_map

    return Models


def test_indexes_that_a_rule_needs_are_missed_by_name() -> None:
    """Of the table, of memberships, and of related rows."""
    base = new_base()

    class Membership(base):  # type: ignore[misc,valid-type]
        __tablename__ = "memberships"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[uuid.UUID]
        team_id: Mapped[int]

    mine = memberships(Membership.team_id, of=Membership.user_id)

    class Ticket(base):  # type: ignore[misc,valid-type]
        __tablename__ = "tickets"
        __access__ = Access(read=mine.has("team_id") | owner, write=admin)
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]
        owner_id: Mapped[uuid.UUID]
        team_id: Mapped[int]

    class Comment(base):  # type: ignore[misc,valid-type]
        __tablename__ = "comments"
        __access__ = Access(read=through("ticket"))
        id: Mapped[int] = mapped_column(primary_key=True)
        ticket_number: Mapped[int] = mapped_column(ForeignKey(Ticket.number))
        ticket: Mapped[Ticket] = relationship()

    assert index_advice(base.metadata) == [
        "tickets: no index begins with number, by which Comment.ticket is found for each row; add "
        "one",
        "tickets: no index begins with team_id, by which rows are found by a scope; add one",
        "memberships: no index begins with user_id, by which the caller's memberships are found; "
        "add one",
        "tickets: no index begins with owner_id, by which rows are found by their owner; add one",
    ]
    Index(None, Membership.user_id, Membership.team_id)
    Index(None, Ticket.team_id)
    Index(None, Ticket.owner_id)
    Index(None, Ticket.number)
    assert index_advice(base.metadata) == []


def test_what_slows_lists_and_what_tells_of_rows_of_others_is_named() -> None:
    base = new_base()

    class Membership(base):  # type: ignore[misc,valid-type]
        __tablename__ = "memberships"
        user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        team_id: Mapped[int] = mapped_column(primary_key=True)

    mine = memberships(Membership.team_id, of=Membership.user_id)

    class Ticket(Timestamps, base):  # type: ignore[misc,valid-type]
        __tablename__ = "tickets"
        __access__ = Access(read=mine.has("team_id") | admin, write=mine.has("team_id"))
        id: Mapped[int] = mapped_column(primary_key=True)
        team_id: Mapped[int]
        number: Mapped[int]
        __table_args__ = (UniqueConstraint("number"), UniqueConstraint("team_id", "number"))

    class Tag(base):  # type: ignore[misc,valid-type]
        __tablename__ = "tags"
        __access__ = Access(read=authenticated, write=authenticated)
        name: Mapped[str] = mapped_column(primary_key=True)
        short: Mapped[str] = mapped_column(unique=True)

    assert [index.name for index in Ticket.__table__.indexes] == [
        "ix_tickets_team_id_created_at_id"
    ]
    telling = (
        "tickets: a conflict of (number) tells a caller of a row that they may not see; add "
        "team_id to uq_tickets_number"
    )
    assert index_advice(base.metadata) == [telling]
    Index("ix_new", Ticket.created_at, Ticket.id)
    assert index_advice(base.metadata) == [
        "tickets: ix_new is read for lists in place of an index by scope, past all rows of others; "
        "drop it",
        telling,
    ]
    assert Tag.__table__.indexes == set()


def test_indexes_that_policies_come_before_are_named() -> None:
    """Of an enum, a decimal and a function, where rules narrow; not of a second column."""
    base = new_base()

    class Status(enum.Enum):
        OPEN = "open"

    class Ticket(base):  # type: ignore[misc,valid-type]
        __tablename__ = "tickets"
        __access__ = Access(read=owner)
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[uuid.UUID]
        status: Mapped[Status] = mapped_column(index=True)
        checked: Mapped[Status] = mapped_column(Enum(Status, native_enum=False), index=True)
        price: Mapped[Decimal] = mapped_column(index=True)
        weight: Mapped[float] = mapped_column(index=True)
        title: Mapped[str]
        __table_args__ = (Index(None, "owner_id", "status"),)

    class Tag(base):  # type: ignore[misc,valid-type]
        __tablename__ = "tags"
        __access__ = Access(read=authenticated)
        id: Mapped[int] = mapped_column(primary_key=True)
        status: Mapped[Status] = mapped_column(index=True)

    Index("ix_tickets_lower", func.lower(Ticket.title))
    Index("ix_tickets_newest", Ticket.weight.desc())
    Index("ix_tickets_words", func.to_tsvector(Ticket.title), postgresql_using="gin")
    assert bypassed_indexes(base.metadata) == [
        "tickets: with RLS=true, ix_tickets_lower serves the service alone, since policies come "
        "before a comparison of lower; index a Computed column of it",
        "tickets: with RLS=true, ix_tickets_price serves the service alone, since policies come "
        "before a comparison of price; an Integer, say of cents, has no such limit",
        "tickets: with RLS=true, ix_tickets_status serves the service alone, since policies come "
        "before a comparison of status; declare the column as Enum(…, native_enum=False)",
    ]


def test_access_that_is_declared_after_the_class_decides_about_the_index_of_lists() -> None:
    base = new_base()

    class Membership(Timestamps, base):  # type: ignore[misc,valid-type]
        __tablename__ = "memberships"
        __table_args__ = (Index("ix_joined", "team_id", "created_at"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[uuid.UUID] = mapped_column(index=True)
        team_id: Mapped[int]

    mine = memberships(Membership.team_id, of=Membership.user_id)
    Membership.__access__ = Access(read=mine.has("team_id"))

    class Team(Timestamps, base):  # type: ignore[misc,valid-type]
        __tablename__ = "teams"
        __access__ = Access(read=mine.has("id"))
        id: Mapped[int] = mapped_column(primary_key=True)

    assert index_advice(base.metadata) == []
    assert Team.__table__.indexes == set()
    assert {str(index.name) for index in Membership.__table__.indexes} == {
        "ix_joined",
        "ix_memberships_user_id",
        "ix_memberships_team_id_created_at_id",
    }
