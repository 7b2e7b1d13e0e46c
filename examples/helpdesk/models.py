"""The models of the help desk: each says once who may do what with its rows.

Callers are customers, agents or leads of the organisations that they are members of.
"""

from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint, and_, exists
from sqlalchemy.orm import Mapped, mapped_column, relationship

from amphibase import Access, Base, Owned, SoftDelete, Timestamps, User, Versioned
from amphibase.access import admin, me, memberships, owner, rule, service, through
from amphibase.models import uuid7

FIXED = {"change": service}
"""Of columns that are set when a row is added, and stay."""


class Person(User):
    phone: Mapped[str | None] = mapped_column(String(30))
    locale: Mapped[str] = mapped_column(String(10), default="en", server_default="en")


class Organisation(Timestamps, Base):
    __tablename__ = "organisations"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str] = mapped_column(String(100))
    billing_code: Mapped[str | None] = mapped_column(String(50), info={"read": service})


class Membership(Timestamps, Base):
    __tablename__ = "memberships"
    __table_args__ = (UniqueConstraint("user_id", "organisation_id"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organisation_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), index=True, info=FIXED
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), info=FIXED)
    role: Mapped[str] = mapped_column(String(20))


class Invitation(Timestamps, Base):
    __tablename__ = "invitations"
    __table_args__ = (UniqueConstraint("organisation_id", "email"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organisation_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), info=FIXED
    )
    email: Mapped[str] = mapped_column(String(254), index=True)
    role: Mapped[str] = mapped_column(String(20))


mine = memberships(Membership.organisation_id, of=Membership.user_id)
agents = mine.where(Membership.role.in_(("agent", "lead")))
leads = mine.where(Membership.role == "lead")

invited = rule(
    lambda row: and_(
        row.user_id == me.id,
        exists().where(
            Invitation.organisation_id == row.organisation_id,
            Invitation.email == me.email,
            Invitation.role == row.role,
        ),
    )
)

Organisation.__access__ = Access(
    read=mine.has("id") | admin, add=admin, change=leads.has("id") | admin, delete=admin
)
Membership.__access__ = Access(
    read=rule(lambda row: row.user_id == me.id) | mine.has("organisation_id") | admin,
    add=invited,
    change=leads.has("organisation_id"),
    delete=leads.has("organisation_id") | rule(lambda row: row.user_id == me.id),
)
Invitation.__access__ = Access(
    read=agents.has("organisation_id") | rule(lambda row: row.email == me.email) | admin,
    add=leads.has("organisation_id")
    | agents.has("organisation_id") & rule(lambda row: row.role == "customer")
    | admin,
    delete=leads.has("organisation_id") | rule(lambda row: row.email == me.email),
)


class Ticket(SoftDelete, Versioned, Owned, Base):
    __tablename__ = "tickets"
    __access__ = Access(
        read=mine.has("organisation_id") | admin,
        add=mine.has("organisation_id"),
        change=agents.has("organisation_id"),
        delete=leads.has("organisation_id"),
    )
    organisation_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), index=True, info=FIXED
    )
    title: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(20), default="open")
    hours: Mapped[float] = mapped_column(default=0)
    organisation: Mapped[Organisation] = relationship()
    comments: Mapped[list["Comment"]] = relationship(back_populates="ticket")
    tags: Mapped[list["Tag"]] = relationship(secondary="ticket_tags")


class Comment(Owned, Base):
    __tablename__ = "comments"
    __access__ = Access(
        read=through("ticket"),
        add=through("ticket"),
        change=owner,
        delete=owner | through("ticket", "delete"),
    )
    ticket_id: Mapped[UUID] = mapped_column(
        ForeignKey("tickets.id", ondelete="CASCADE"), index=True, info=FIXED
    )
    text: Mapped[str]
    ticket: Mapped[Ticket] = relationship(back_populates="comments")


class Tag(Base):
    __tablename__ = "tags"
    __table_args__ = (UniqueConstraint("organisation_id", "name"),)
    __access__ = Access(read=mine.has("organisation_id"), write=agents.has("organisation_id"))
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organisation_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), info=FIXED
    )
    name: Mapped[str] = mapped_column(String(50))


class TicketTag(Base):
    __tablename__ = "ticket_tags"
    __table_args__ = (UniqueConstraint("ticket_id", "tag_id"),)
    __access__ = Access(
        read=through("ticket"),
        add=through("ticket", "change"),
        delete=through("ticket", "change"),
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    ticket_id: Mapped[UUID] = mapped_column(ForeignKey("tickets.id", ondelete="CASCADE"))
    tag_id: Mapped[UUID] = mapped_column(
        ForeignKey("tags.id", ondelete="CASCADE"), index=True, info={"references": "visible"}
    )
    ticket: Mapped[Ticket] = relationship(viewonly=True)


class Attachment(Owned, Base):
    """A file of a ticket: who sees the ticket sees it. Its bytes are in the bucket `attachments`,
    which the service alone reads."""

    __tablename__ = "attachments"
    __access__ = Access(
        read=through("ticket"), add=through("ticket"), delete=owner | through("ticket", "delete")
    )
    ticket_id: Mapped[UUID] = mapped_column(
        ForeignKey("tickets.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(200))
    ticket: Mapped[Ticket] = relationship()

    @property
    def path(self) -> str:
        return f"{self.ticket_id}/{self.id}"
