"""The help desk over HTTP; each test has a database of its own."""

from typing import Any

from amphibase.testing.client import Client
from amphibase.testing.emails import SentEmails

PASSWORD = "correct horse battery"


async def add_organisation(client: Client, name: str, agent: str) -> str:
    """Return the path of a new organisation, whose agent is invited."""
    admin = await client.as_user("root@example.com", admin=True)
    response = await admin.post("/api/organisations", json={"name": name, "agent": agent})
    assert response.status_code == 201, response.text
    return f"/api/organisations/{response.json()}"


async def accept(client: Client, emails: SentEmails, email: str, **profile: Any) -> Any:
    """Accept an invitation; return the headers of the new user's requests."""
    token = await emails.next_token_to(email)
    body = {"token": token, "password": PASSWORD, **profile}
    response = await client.post("/api/auth/invitations/accept", json=body)
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def test_an_invited_agent_works_in_their_organisation_alone(
    client: Client, emails: SentEmails
) -> None:
    here = await add_organisation(client, "Here", "ann@example.com")
    there = await add_organisation(client, "There", "bob@example.com")
    ann = await accept(client, emails, "ann@example.com", name="Ann")
    ticket = await client.post(f"{here}/tickets", json={"title": "Printer"}, headers=ann)
    closed = await client.post(f"{here}/tickets/{ticket.json()['id']}/close", headers=ann)
    assert closed.json()["is_open"] is False
    assert len((await client.get(f"{here}/tickets", headers=ann)).json()) == 1
    assert (await client.get(f"{there}/tickets", headers=ann)).status_code == 404
    assert (await client.get(f"{here}/tickets")).status_code == 401


async def test_a_customer_closes_no_tickets(client: Client, emails: SentEmails) -> None:
    here = await add_organisation(client, "Here", "ann@example.com")
    ann = await accept(client, emails, "ann@example.com")
    body = {"email": "cyd@example.com"}
    sent = await client.post(f"{here}/invitations", json=body, headers=ann)
    assert sent.status_code == 202
    cyd = await accept(client, emails, "cyd@example.com")
    ticket = await client.post(f"{here}/tickets", json={"title": "Help"}, headers=cyd)
    path = f"{here}/tickets/{ticket.json()['id']}/close"
    assert (await client.post(path, headers=cyd)).status_code == 403
    assert (await client.post(f"{here}/invitations", json=body, headers=cyd)).status_code == 403


async def test_only_an_invitation_admits(client: Client, emails: SentEmails) -> None:
    await add_organisation(client, "Here", "ann@example.com")
    body = {"email": "ann@example.com", "password": PASSWORD}
    assert (await client.post("/api/auth/sign-up", json=body)).status_code == 403


async def test_a_user_in_two_organisations_has_both_in_the_token(
    client: Client, emails: SentEmails
) -> None:
    here = await add_organisation(client, "Here", "ann@example.com")
    await accept(client, emails, "ann@example.com")
    there = await add_organisation(client, "There", "ann@example.com")
    ann = await client.as_user("ann@example.com")
    for path in (here, there):
        assert (await ann.get(f"{path}/tickets")).status_code == 200


async def test_people_have_columns_of_their_own(client: Client, emails: SentEmails) -> None:
    await add_organisation(client, "Here", "ann@example.com")
    ann = await accept(client, emails, "ann@example.com", phone="555-0100")
    changed = await client.patch("/api/users/me", json={"locale": "de"}, headers=ann)
    assert (changed.json()["phone"], changed.json()["locale"]) == ("555-0100", "de")
