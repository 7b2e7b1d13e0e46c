"""Who may sign up, and how an invitation is accepted, on every backend."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import update
from tests.backends import sql_backend_of
from tests.outbox import messages, token_in

from amphibase import Settings
from amphibase.accounts.sign_up_policy import canonical_domain
from amphibase.models import utc_now
from amphibase.schema.tables import tables
from amphibase.testing.client import Client

EMAIL, PASSWORD = "ann@example.com", "correct horse battery"
NEW = {"email": EMAIL, "password": PASSWORD}


@pytest.fixture
def settings(make_settings, request):  # type: ignore[no-untyped-def]
    return make_settings(**getattr(request, "param", {"sign_up": "invited"}))


async def invited(app: FastAPI, client: Client, settings: Settings, **more: Any) -> str:
    """Invite as an administrator; the token of the email."""
    admin = await client.as_user("root@example.com", admin=True)
    sent = await admin.post("/users/invitations", json={"email": EMAIL, **more})
    assert sent.status_code == 202, sent.text
    await sql_backend_of(app).background.settle()
    return token_in(messages(settings.data_dir)[-1])


async def accept(client: Client, token: str, **more: Any) -> Any:
    body = {"token": token, "password": PASSWORD, **more}
    return await client.post("/auth/invitations/accept", json=body)


async def test_the_token_of_an_invitation_admits_and_the_address_does_not(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    token = await invited(app, client, settings, name="Ann", admin=True)
    closed = await client.post("/auth/sign-up", json=NEW)
    assert (closed.status_code, closed.json()["code"]) == (403, "sign_up_closed")
    accepted = await accept(client, token, name="Anna")
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()["user"]["name"] == "Anna"
    headers = {"Authorization": f"Bearer {accepted.json()['access_token']}"}
    assert (await client.get("/users", headers=headers)).status_code == 200
    assert (await client.post("/auth/sign-in", json=NEW)).status_code == 200
    again = await accept(client, token)
    assert (again.status_code, again.json()["code"]) == (400, "invalid_or_expired_token")


@pytest.mark.parametrize(
    "settings", [{"sign_up": "open", "email_confirmation": "required"}], indirect=True
)
async def test_a_sign_up_with_an_invited_address_adds_no_password(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    token = await invited(app, client, settings)
    strange = NEW | {"password": "a password of a stranger"}
    assert (await client.post("/auth/sign-up", json=strange)).status_code == 201
    assert (await accept(client, token)).status_code == 200
    assert (await client.post("/auth/sign-in", json=strange)).status_code == 401
    assert (await client.post("/auth/sign-in", json=NEW)).status_code == 200


@pytest.mark.parametrize("path", ["/auth/password/forgot", "/auth/email/resend"])
async def test_no_other_email_admits_an_invited_user(
    app: FastAPI, client: Client, settings: Settings, path: str
) -> None:
    token = await invited(app, client, settings)
    sent = len(messages(settings.data_dir))
    assert (await client.post(path, json={"email": EMAIL})).status_code == 202
    await sql_backend_of(app).background.settle()
    assert len(messages(settings.data_dir)) == sent
    assert (await accept(client, token)).status_code == 200


async def test_an_invitation_lasts_a_week_and_a_newer_one_replaces_it(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    first = await invited(app, client, settings)
    token = await invited(app, client, settings)
    assert (await accept(client, first)).status_code == 400
    backend = sql_backend_of(app)
    table = tables(backend.database.dialect).one_time_tokens
    for age, status in ((timedelta(days=7, seconds=1), 400), (timedelta(days=6), 200)):
        async with backend.database.write() as connection:
            await connection.execute(update(table).values(created_at=utc_now() - age))
        assert (await accept(client, token)).status_code == status


async def test_only_an_administrator_invites_and_only_who_has_no_account(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    ann = await client.as_user(EMAIL)
    rejected = await ann.post("/users/invitations", json={"email": "bob@example.com"})
    assert rejected.status_code == 403
    admin = await client.as_user("root@example.com", admin=True)
    taken = await admin.post("/users/invitations", json={"email": EMAIL})
    assert taken.json()["code"] == "email_already_registered"


@pytest.mark.parametrize("settings", [{"sign_up": "closed"}], indirect=True)
async def test_where_sign_up_is_closed_only_an_administrator_makes_accounts(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    admin = await client.as_user("root@example.com", admin=True)
    for path, body in (("/auth/sign-up", NEW), ("/users/invitations", {"email": EMAIL})):
        response = await admin.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (403, "sign_up_closed")
    assert (await admin.post("/users", json=NEW)).status_code == 201


@pytest.mark.parametrize(
    "settings", [{"sign_up_domains": "Example.com, bücher.example"}], indirect=True
)
@pytest.mark.parametrize(
    ("email", "status"),
    [
        ("ann@example.com", 201),
        ("ann@EXAMPLE.COM", 201),
        ("ann@xn--bcher-kva.example", 201),
        ("ann@BÜCHER.example", 201),
        ("ann@sub.example.com", 403),
        ("ann@notexample.com", 403),
        ("ann@example.com.evil.com", 403),
        ("ann@example.org", 403),
    ],
)
async def test_only_addresses_of_the_domains_sign_up(
    client: Client, email: str, status: int
) -> None:
    response = await client.post("/auth/sign-up", json=NEW | {"email": email})
    assert response.status_code == status
    if status == 403:
        assert response.json()["code"] == "email_domain_not_allowed"


def test_a_domain_that_has_no_form_in_the_dns_is_compared_as_it_is() -> None:
    assert canonical_domain("-bad-.Example") == "-bad-.example"
