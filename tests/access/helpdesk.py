"""The models of a help desk, in a MetaData of their own, and a backend for them."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from sqlalchemy import ForeignKey, MetaData, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from tests.backends import SECRET

from amphibase import Base, Caller
from amphibase.access import (
    Access,
    Add,
    Change,
    admin,
    authenticated,
    everyone,
    me,
    memberships,
    owner,
    rule,
    service,
    through,
)
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.database.url import to_conninfo
from amphibase.models import SoftDelete, Timestamps, Versioned, uuid7
from amphibase.schema.migrations import roles
from amphibase.schema.policy_script import script
from amphibase.search import search_index
from amphibase.settings.application import load_settings
from amphibase.sql.backend import SqlBackend

KINDS = ("sqlite", "predicate", "rls")


def user(number: int, **claims: object) -> Caller:
    """A signed-in caller."""
    return Caller("authenticated", uuid.UUID(int=number), claims=claims)


ANN = user(0xA, email="ann@example.com")
"""An agent of Acme."""
BOB = user(0xB, email="bob@example.com", app_metadata={"plan": "gold"})
"""A member of Acme and of Umbrella."""
EVE = user(0xE, email="eve@example.com")
"""A member of Umbrella; she has left Acme."""
ADMIN = user(0xAD, app_metadata={"role": "admin"})


class Models(DeclarativeBase):
    """Beside the application's models, for whose tables there are policies."""

    metadata = MetaData()
    type_annotation_map = Base.type_annotation_map


class Organisation(Models):
    __tablename__ = "desk_organisations"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    plan: Mapped[str] = mapped_column(default="free")


class Membership(SoftDelete, Models):
    __tablename__ = "desk_memberships"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    organisation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("desk_organisations.id"))
    user_id: Mapped[uuid.UUID]
    role: Mapped[str] = mapped_column(default="customer")


mine = memberships(Membership.organisation_id, of=Membership.user_id)
agents = mine.where(Membership.role.in_(("agent", "lead")))
leads = mine.where(Membership.role == "lead")

Organisation.__access__ = Access(
    read=mine.has("id") | rule(lambda row: row.plan == me.claim("app_metadata", "plan")),
    change=leads.has("id"),
)
Membership.__access__ = Access(read=mine.has("organisation_id"), write=leads.has("organisation_id"))


class Ticket(Timestamps, SoftDelete, Versioned, Models):
    __tablename__ = "desk_tickets"
    __access__ = Access(
        read=mine.has("organisation_id") | admin,
        add=mine.has("organisation_id") & rule(lambda row: row.status == "open"),
        change=agents.has("organisation_id"),
        delete=leads.has("organisation_id"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    organisation_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("desk_organisations.id"))
    title: Mapped[str]
    status: Mapped[str] = mapped_column(default="open")
    parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("desk_tickets.id"))
    __table_args__ = (search_index("ix_desk_tickets_search", "title", "status"),)
    organisation: Mapped[Organisation] = relationship()
    parent: Mapped["Ticket | None"] = relationship(remote_side=[id], back_populates="children")
    children: Mapped[list["Ticket"]] = relationship(back_populates="parent")
    comments: Mapped[list["Comment"]] = relationship(back_populates="ticket")


class Comment(Timestamps, Models):
    __tablename__ = "desk_comments"
    __access__ = Access(
        read=through("ticket"),
        add=through("ticket"),
        change=owner,
        delete=owner | through("ticket", "delete"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    owner_id: Mapped[uuid.UUID]
    ticket_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("desk_tickets.id"))
    text: Mapped[str]
    __table_args__ = (search_index("ix_desk_comments_search", "text", language="english"),)
    ticket: Mapped[Ticket] = relationship(back_populates="comments")


class Article(Models):
    """Published ones are everyone's; a draft is its author's, or of those whose plan pays."""

    __tablename__ = "desk_articles"
    __access__ = Access(
        read=rule(lambda row: row.published)
        | owner
        | rule(lambda row: row.organisation.has(Organisation.plan == "gold")),
        add=authenticated,
        change=Change(old=owner, new=rule(lambda row: row.title != "")),
        delete=owner & rule(lambda row: ~row.published),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    owner_id: Mapped[uuid.UUID]
    organisation_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("desk_organisations.id"))
    title: Mapped[str]
    published: Mapped[bool] = mapped_column(server_default=false())
    __table_args__ = (search_index("ix_desk_articles_search", "title"),)
    organisation: Mapped[Organisation | None] = relationship()


class Bookmark(Models):
    """Of an organisation that its owner sees when they set it."""

    __tablename__ = "desk_bookmarks"
    __access__ = Access(read=owner, write=owner)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    owner_id: Mapped[uuid.UUID]
    organisation_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("desk_organisations.id"), info={"references": "visible"}
    )
    title: Mapped[str] = mapped_column(default="")


class Message(Models):
    """A contact form: everyone's to send, the administrators' to read."""

    __tablename__ = "desk_messages"
    __access__ = Access(read=admin, add=Add(everyone, visible=False), delete=service)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    text: Mapped[str]


@asynccontextmanager
async def opened(url: str, folder: Path, *, rls: bool = False) -> AsyncIterator[SqlBackend]:
    """A backend on an empty database that gets the tables, and with `rls` the policies."""
    settings = load_settings(database_url=url, secret_key=SECRET, data_dir=folder, rls=rls)
    backend = SqlBackend(settings, load_keys(settings))
    async with backend.database.write() as connection:
        await connection.run_sync(Models.metadata.create_all)
        if rls:
            await connection.run_sync(roles.create_missing)
    if rls:
        with psycopg.connect(to_conninfo(backend.database.url), autocommit=True) as connection:
            connection.execute(script(Models.metadata).encode())
    yield backend
    await backend.close()
