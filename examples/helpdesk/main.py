"""A help desk: organisations invite their members, who open tickets; agents close them.

amphibase serve main:app
amphibase users create root@example.com --admin --app main:app
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, EmailStr
from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from amphibase import (
    SERVICE,
    Account,
    AdminUser,
    Amphibase,
    Base,
    Claims,
    CurrentUser,
    EmailAlreadyRegistered,
    Forbidden,
    NotFound,
    Repository,
    ServerOnly,
    SignUpAttempt,
    Timestamps,
    Transaction,
    User,
)


class Person(User):
    phone: Mapped[str | None] = mapped_column(String(30))
    locale: Mapped[str] = mapped_column(String(10), default="en", server_default="en")


class Organisation(ServerOnly, Timestamps, Base):
    __tablename__ = "organisations"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(100))


class Membership(ServerOnly, Timestamps, Base):
    __tablename__ = "memberships"
    __table_args__ = (UniqueConstraint("organisation_id", "user_id"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organisation_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE")
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    is_agent: Mapped[bool] = mapped_column(default=False)


class Invitation(ServerOnly, Timestamps, Base):
    __tablename__ = "invitations"
    __table_args__ = (UniqueConstraint("organisation_id", "email"),)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organisation_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE")
    )
    email: Mapped[str] = mapped_column(String(254), index=True)
    is_agent: Mapped[bool] = mapped_column(default=False)


class Ticket(ServerOnly, Timestamps, Base):
    __tablename__ = "tickets"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    organisation_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), index=True
    )
    author_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    title: Mapped[str] = mapped_column(String(200))
    is_open: Mapped[bool] = mapped_column(default=True)


db = Amphibase(user=Person)
app = db.mount(FastAPI(title="Help desk"), prefix="/api")


@db.before_sign_up
async def invited_only(attempt: SignUpAttempt) -> None:
    if not attempt.invited:  # an address alone proves nothing
        raise Forbidden("Ask your organisation for an invitation")


@db.after_sign_up
async def join(account: Account, transaction: Transaction) -> None:
    invitations = transaction.repository(Invitation)
    memberships = transaction.repository(Membership)
    for invitation in await invitations.list(Invitation.email == account.email):
        await memberships.add(
            Membership(
                organisation_id=invitation.organisation_id,
                user_id=account.id,
                is_agent=invitation.is_agent,
            )
        )
    await invitations.delete_where(Invitation.email == account.email)


@db.before_token
async def add_organisations(
    account: Account, claims: Claims, transaction: Transaction
) -> dict[str, Any]:
    memberships = await transaction.repository(Membership).list(Membership.user_id == account.id)
    return {"organisations": [str(each.organisation_id) for each in memberships]}


@dataclass
class Desk:
    """One organisation, as one of its members may use it: every access goes through here."""

    member: Membership
    tickets: Repository[Ticket]

    async def list(self) -> Sequence[Ticket]:
        return await self.tickets.list(Ticket.organisation_id == self.member.organisation_id)

    async def get(self, id: UUID) -> Ticket:
        own = Ticket.organisation_id == self.member.organisation_id
        return await self.tickets.one(Ticket.id == id, own)

    async def add(self, title: str) -> Ticket:
        return await self.tickets.add(
            Ticket(
                organisation_id=self.member.organisation_id,
                author_id=self.member.user_id,
                title=title,
            )
        )

    async def close(self, id: UUID) -> Ticket | None:
        return await self.tickets.update((await self.get(id)).id, is_open=False)


async def members_desk(organisation_id: UUID, user: CurrentUser) -> Desk:
    backend = db.state.backend
    member = await backend.repository(Membership, SERVICE).first(
        Membership.organisation_id == organisation_id, Membership.user_id == user.id
    )
    if member is None:
        raise NotFound  # the same for a missing organisation and for one of others
    return Desk(member, backend.repository(Ticket, SERVICE))


MembersDesk = Annotated[Desk, Depends(members_desk)]


async def agents_desk(desk: MembersDesk) -> Desk:
    if not desk.member.is_agent:
        raise Forbidden("Only agents may do this")
    return desk


AgentsDesk = Annotated[Desk, Depends(agents_desk)]


class NewOrganisation(BaseModel):
    name: str
    agent: EmailStr


class NewInvitation(BaseModel):
    email: EmailStr
    is_agent: bool = False


class NewTicket(BaseModel):
    title: str


TicketRead: Any = db.schema(Ticket)


async def invite(organisation_id: UUID, email: str, *, is_agent: bool) -> None:
    """Invite a new user by email; add one who has an account at once."""
    email = email.lower()
    backend = db.state.backend
    await backend.repository(Invitation, SERVICE).upsert(
        Invitation(organisation_id=organisation_id, email=email, is_agent=is_agent),
        on=[Invitation.organisation_id, Invitation.email],
    )
    try:
        await backend.accounts.invite(email)
    except EmailAlreadyRegistered:
        account = await backend.accounts.get_by_email(email)
        if account is not None:
            async with backend.transaction(SERVICE) as transaction:
                await join(account, transaction)


desks = APIRouter(prefix="/api/organisations", tags=["help desk"])


@desks.post("", status_code=201)
async def add_organisation(new: NewOrganisation, admin: AdminUser) -> UUID:
    organisations = db.state.backend.repository(Organisation, SERVICE)
    organisation = await organisations.add(Organisation(name=new.name))
    await invite(organisation.id, new.agent, is_agent=True)
    return organisation.id


@desks.post("/{organisation_id}/invitations", status_code=202)
async def add_invitation(new: NewInvitation, desk: AgentsDesk) -> None:
    await invite(desk.member.organisation_id, new.email, is_agent=new.is_agent)


@desks.get("/{organisation_id}/tickets", response_model=list[TicketRead])
async def list_tickets(desk: MembersDesk) -> Any:
    return await desk.list()


@desks.post("/{organisation_id}/tickets", status_code=201, response_model=TicketRead)
async def add_ticket(new: NewTicket, desk: MembersDesk) -> Any:
    return await desk.add(new.title)


@desks.post("/{organisation_id}/tickets/{id}/close", response_model=TicketRead)
async def close_ticket(id: UUID, desk: AgentsDesk) -> Any:
    return await desk.close(id)


app.include_router(desks)
