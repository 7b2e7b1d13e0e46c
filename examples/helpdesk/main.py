"""A help desk: organisations invite their members, who open tickets; agents work on them.

No route checks a permission: who may do what is declared by the models. In this folder:

SIGN_UP=invited amphibase serve main:app
amphibase users create root@example.com --admin --app main:app
amphibase access matrix --app main:app
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, EmailStr
from sqlalchemy import func

from amphibase import (
    SERVICE,
    Amphibase,
    Conflict,
    CurrentUser,
    EmailAlreadyRegistered,
    NotFound,
    Repository,
)
from models import (
    Attachment,
    Comment,
    Invitation,
    Membership,
    Organisation,
    Person,
    Tag,
    Ticket,
)

BUCKET = "attachments"


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    files = db.state.backend.files
    if await files.bucket(BUCKET) is None:
        await files.create_bucket(BUCKET)
    yield


db = Amphibase(user=Person)
app = db.mount(FastAPI(title="Help desk", lifespan=lifespan), prefix="/api")

Organisations = Annotated[Repository[Organisation], db.repository(Organisation)]
Memberships = Annotated[Repository[Membership], db.repository(Membership)]
Invitations = Annotated[Repository[Invitation], db.repository(Invitation)]
Tickets = Annotated[Repository[Ticket], db.repository(Ticket)]
Attachments = Annotated[Repository[Attachment], db.repository(Attachment)]
TicketRead: Any = db.schema(Ticket)
CommentRead: Any = db.schema(Comment)
TagRead: Any = db.schema(Tag)


class TicketPage(TicketRead):  # type: ignore[misc]
    comments: list[CommentRead]
    tags: list[TagRead]


class NewInvitation(BaseModel):
    organisation_id: UUID
    email: EmailStr
    role: str = "customer"


class Month(BaseModel):
    month: str
    tickets: int
    hours: float


desk = APIRouter(prefix="/api", tags=["help desk"])


@desk.post("/invitations", status_code=201, response_model=db.schema(Invitation))
async def invite(new: NewInvitation, invitations: Invitations) -> Any:
    invitation = await invitations.add(
        Invitation(organisation_id=new.organisation_id, email=new.email.lower(), role=new.role)
    )
    with suppress(EmailAlreadyRegistered):  # who has an account signs in, and joins
        await db.state.backend.accounts.invite(invitation.email)
    return invitation


@desk.post("/memberships/join", response_model=list[db.schema(Membership)])
async def join(
    user: CurrentUser, invitations: Invitations, memberships: Memberships
) -> Sequence[Membership]:
    """Turn the caller's invitations into memberships."""
    for invitation in await invitations.list(Invitation.email == user.email):
        membership = Membership(
            organisation_id=invitation.organisation_id, user_id=user.id, role=invitation.role
        )
        with suppress(Conflict):  # a member already
            await memberships.add(membership)
        await invitations.delete(invitation.id)
    return await memberships.list(Membership.user_id == user.id)


@desk.get("/tickets/{id}/page", response_model=TicketPage)
async def ticket_page(id: UUID, tickets: Tickets) -> Ticket:
    ticket = await tickets.get(id, load=[Ticket.comments, Ticket.tags])
    if ticket is None:
        raise NotFound
    return ticket


@desk.put("/tickets/{id}/tags", status_code=204)
async def add_tags(id: UUID, tag_ids: list[UUID], tickets: Tickets) -> None:
    await tickets.add_related(id, Ticket.tags, tag_ids)


@desk.delete("/tickets/{id}/tags/{tag_id}", status_code=204)
async def remove_tag(id: UUID, tag_id: UUID, tickets: Tickets) -> None:
    if not await tickets.remove_related(id, Ticket.tags, [tag_id]):
        raise NotFound


@desk.post(
    "/tickets/{id}/attachments/{name}", status_code=201, response_model=db.schema(Attachment)
)
async def attach(id: UUID, name: str, request: Request, attachments: Attachments) -> Any:
    attachment = await attachments.add(Attachment(ticket_id=id, name=name))
    await db.state.files.put(SERVICE, BUCKET, attachment.path, request.stream())
    return attachment


@desk.get("/attachments/{id}/content")
async def attached(id: UUID, attachments: Attachments) -> RedirectResponse:
    attachment = await attachments.get(id)
    if attachment is None:
        raise NotFound
    lifetime = timedelta(minutes=1)
    signed = await db.state.files.signed_url(SERVICE, BUCKET, attachment.path, lifetime)
    return RedirectResponse(signed.url)


@desk.get("/statistics")
async def statistics(tickets: Tickets, months: int = 3) -> list[Month]:
    """Count the tickets that the caller sees, month by month, the latest first."""
    found = []
    end = datetime.now(UTC)
    for _ in range(min(months, 24)):
        start = end.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        within = [Ticket.created_at >= start, Ticket.created_at <= end]
        ((count, hours),) = await tickets.aggregate(
            func.count(), func.sum(Ticket.hours), where=within
        )
        found.append(Month(month=f"{start:%Y-%m}", tickets=count, hours=hours or 0))
        end = start - timedelta(microseconds=1)
    return found


app.include_router(desk)
for model in (Organisation, Membership, Invitation, Ticket, Comment, Tag, Attachment):
    app.include_router(db.router(model, prefix=f"/api/{model.__tablename__}"))
