"""The help desk over HTTP; each test has a database of its own."""

import os
from typing import Any
from uuid import UUID

import pytest
from main import db

from amphibase import Caller, ForeignKeyViolation
from amphibase.testing.client import Client
from amphibase.testing.emails import SentEmails
from models import TicketTag

on_supabase = os.environ.get("TEST_BACKEND") == "supabase"


async def add(client: Client, path: str, **body: Any) -> Any:
    response = await client.post(f"/api/{path}", json=body)
    assert response.status_code == 201, response.text
    return response.json()


async def organisation(client: Client, name: str, lead: str) -> tuple[str, Client]:
    """Return the id of a new organisation, and its lead."""
    root = await client.as_user("root@example.com", admin=True)
    id = (await add(root, "organisations", name=name))["id"]
    return id, await member(client, root, id, lead, "lead")


async def member(client: Client, inviting: Client, id: str, email: str, role: str) -> Client:
    """Return a user who was invited to an organisation, and has joined it."""
    user = await client.as_user(email)
    await add(inviting, "invitations", organisation_id=id, email=email, role=role)
    joined = await user.post("/api/memberships/join")
    assert role in [each["role"] for each in joined.json()], joined.text
    return user


async def statuses(clients: dict[str, Client], method: str, path: str, **body: Any) -> Any:
    return {
        name: (await each.request(method, f"/api/{path}", **body)).status_code
        for name, each in clients.items()
    }


async def test_only_members_see_the_tickets_of_their_organisation(client: Client) -> None:
    here, ann = await organisation(client, "Here", "ann@example.com")
    _, bob = await organisation(client, "There", "bob@example.com")
    ticket = await add(ann, "tickets", organisation_id=here, title="Printer")
    path = f"tickets/{ticket['id']}"
    callers = {"ann": ann, "bob": bob, "anonymous": client}
    assert await statuses(callers, "GET", path) == {"ann": 200, "bob": 404, "anonymous": 404}
    assert len((await ann.get("/api/tickets")).json()["items"]) == 1
    assert (await bob.get("/api/tickets")).json()["items"] == []
    body = {"organisation_id": here, "title": "Theirs"}
    assert await statuses({"bob": bob}, "POST", "tickets", json=body) == {"bob": 403}
    moved = await ann.patch(f"/api/{path}", json={"organisation_id": here})
    assert moved.status_code == 422


async def test_customers_open_agents_work_and_leads_delete(client: Client) -> None:
    here, lead = await organisation(client, "Here", "lead@example.com")
    agent = await member(client, lead, here, "agent@example.com", "agent")
    customer = await member(client, agent, here, "customer@example.com", "customer")
    ticket = await add(customer, "tickets", organisation_id=here, title="Help")
    path = f"tickets/{ticket['id']}"
    callers = {"customer": customer, "agent": agent}
    closing = {"json": {"status": "closed", "hours": 1.5}}
    assert await statuses(callers, "PATCH", path, **closing) == {"customer": 403, "agent": 200}
    assert await statuses(callers, "DELETE", path) == {"customer": 403, "agent": 403}
    (month, *_) = (await customer.get("/api/statistics")).json()
    assert (month["tickets"], month["hours"]) == (1, 1.5)
    assert await statuses({"lead": lead}, "DELETE", path) == {"lead": 204}
    assert await statuses(callers, "GET", path) == {"customer": 404, "agent": 404}
    (month, *_) = (await customer.get("/api/statistics")).json()
    assert (month["tickets"], month["hours"]) == (0, 0)


async def test_an_agent_invites_customers_and_nobody_promotes_themselves(client: Client) -> None:
    here, lead = await organisation(client, "Here", "lead@example.com")
    agent = await member(client, lead, here, "agent@example.com", "agent")
    body = {"organisation_id": here, "email": "eve@example.com", "role": "lead"}
    assert (await agent.post("/api/invitations", json=body)).status_code == 403
    eve = await client.as_user("eve@example.com")
    assert (await eve.post("/api/memberships/join")).json() == []
    own = {"organisation_id": here, "user_id": str(eve.user.id), "role": "lead"}
    assert (await eve.post("/api/memberships", json=own)).status_code == 403
    (membership,) = (await agent.post("/api/memberships/join")).json()
    change = await agent.patch(f"/api/memberships/{membership['id']}", json={"role": "lead"})
    assert change.status_code == 403


async def test_comments_tags_and_attachments_follow_their_ticket(client: Client) -> None:
    here, lead = await organisation(client, "Here", "lead@example.com")
    customer = await member(client, lead, here, "customer@example.com", "customer")
    _, bob = await organisation(client, "There", "bob@example.com")
    ticket = await add(customer, "tickets", organisation_id=here, title="Help")
    path = f"tickets/{ticket['id']}"
    comment = await add(customer, "comments", ticket_id=ticket["id"], text="Please")
    tag = await add(lead, "tags", organisation_id=here, name="urgent")
    tagging = {"customer": customer, "bob": bob, "lead": lead}
    assert await statuses(tagging, "PUT", f"{path}/tags", json=[tag["id"]]) == {
        "customer": 403,
        "bob": 404,
        "lead": 204,
    }
    sent = await customer.post(f"/api/{path}/attachments/screen.png", content=b"picture")
    assert sent.status_code == 201, sent.text
    everyone = {"customer": customer, "lead": lead, "bob": bob, "anonymous": client}
    expected = {"customer": 307, "lead": 307, "bob": 404, "anonymous": 404}
    attached = f"attachments/{sent.json()['id']}/content"
    assert await statuses(everyone, "GET", attached) == expected
    page = (await customer.get(f"/api/{path}/page")).json()
    assert [each["text"] for each in page["comments"]] == ["Please"]
    assert [each["name"] for each in page["tags"]] == ["urgent"]
    editing = {"bob": bob, "lead": lead, "customer": customer}
    assert await statuses(editing, "PATCH", f"comments/{comment['id']}", json={"text": "!"}) == {
        "bob": 404,
        "lead": 403,
        "customer": 200,
    }
    body = {"ticket_id": ticket["id"], "text": "Theirs"}
    assert (await bob.post("/api/comments", json=body)).status_code == 403
    assert (await lead.delete(f"/api/{path}/tags/{tag['id']}")).status_code == 204
    assert (await lead.delete(f"/api/comments/{comment['id']}")).status_code == 204


@pytest.mark.skipif(on_supabase, reason="a caller of a project comes with a token")
async def test_a_tag_of_others_is_put_on_no_ticket_whether_it_exists_or_not(
    client: Client,
) -> None:
    here, lead = await organisation(client, "Here", "lead@example.com")
    there, bob = await organisation(client, "There", "bob@example.com")
    ticket = await add(lead, "tickets", organisation_id=here, title="Help")
    tag = await add(bob, "tags", organisation_id=there, name="urgent")
    id = UUID((await lead.get("/api/users/me")).json()["id"])
    ticket_tags = db.state.backend.repository(TicketTag, Caller("authenticated", id))
    for tag_id in (UUID(tag["id"]), id):
        with pytest.raises(ForeignKeyViolation):
            await ticket_tags.add(TicketTag(ticket_id=UUID(ticket["id"]), tag_id=tag_id))


async def test_nobody_sees_what_only_the_service_reads(client: Client) -> None:
    here, lead = await organisation(client, "Here", "lead@example.com")
    read = await lead.get(f"/api/organisations/{here}")
    assert "billing_code" not in read.text
    filtered = await lead.get("/api/organisations?billing_code=eq.x")
    assert filtered.status_code == 422


@pytest.mark.skipif(on_supabase, reason="emails are in the inbox of the project")
async def test_an_invited_user_accepts_by_email_and_has_columns_of_their_own(
    client: Client, emails: SentEmails
) -> None:
    here, lead = await organisation(client, "Here", "lead@example.com")
    await add(lead, "invitations", organisation_id=here, email="Cyd@example.com", role="agent")
    body = {
        "token": await emails.next_token_to("cyd@example.com"),
        "password": "correct horse battery",
        "phone": "555-0100",
    }
    accepted = await client.post("/api/auth/invitations/accept", json=body)
    assert accepted.status_code == 200, accepted.text
    cyd = {"Authorization": f"Bearer {accepted.json()['access_token']}"}
    joined = await client.post("/api/memberships/join", headers=cyd)
    assert [each["role"] for each in joined.json()] == ["agent"]
    changed = await client.patch("/api/users/me", json={"locale": "de"}, headers=cyd)
    assert (changed.json()["phone"], changed.json()["locale"]) == ("555-0100", "de")
