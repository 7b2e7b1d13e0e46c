"""The routes of an application whose data is in a Supabase project."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from tests.models import Note
from tests.rule_models import Enquiry
from tests.supabase_projects import prepare_files, settings_of
from tests.supabase_tables import create_tables

from amphibase import SERVICE, Amphibase, Repository
from amphibase.testing.client import PASSWORD, Client, open_client
from amphibase.testing.supabase import LocalSupabase, Projects

BOB = {"email": "bob@example.com", "password": PASSWORD}


@pytest.fixture(scope="module")
def prepared(local_supabase_projects: Projects) -> Iterator[LocalSupabase]:
    with local_supabase_projects.open() as project:
        prepare_files(project)
        create_tables(project)
        yield project


@pytest.fixture
async def client(prepared: LocalSupabase) -> AsyncIterator[Client]:
    db = Amphibase(settings_of(prepared))
    app = db.mount(FastAPI())
    notes = Annotated[Repository[Note], db.repository(Note)]

    @app.post("/notes", status_code=201)
    async def add(notes: notes) -> None:
        await notes.add(Note(title="one", stars=1))

    @app.get("/seen")
    async def seen(
        own: Annotated[Any, db.supabase()], service: Annotated[Any, db.supabase(SERVICE)]
    ) -> list[int]:
        """How many notes the official client returns as the caller, and as the service."""
        queries = [client.table("t_notes").select("id") for client in (own, service)]
        return [len((await query.execute()).data) for query in queries]

    app.include_router(db.router(Enquiry))
    async with open_client(app) as opened:
        yield opened


async def test_a_row_that_its_sender_may_not_see_is_added_without_showing_it(
    client: Client,
) -> None:
    """The database counts its key, of which the sender learns nothing."""
    added = await client.post("/t_enquiries", json={"text": "help"})
    assert (added.status_code, added.content) == (201, b""), added.text


async def test_a_user_signs_up_refreshes_and_leaves(client: Client) -> None:
    signed_up = await client.post("/auth/sign-up", json=BOB | {"name": "Bob"})
    assert signed_up.status_code == 201, signed_up.text
    again = await client.post("/auth/sign-up", json=BOB)
    assert (again.status_code, again.json()["code"]) == (400, "email_already_registered")
    token = {"Authorization": f"Bearer {signed_up.json()['access_token']}"}
    assert (await client.get("/users/me", headers=token)).json()["name"] == "Bob"
    changed = await client.patch("/users/me", json={"name": "Robert"}, headers=token)
    assert changed.json()["name"] == "Robert"
    body = {"refresh_token": signed_up.json()["refresh_token"]}
    refreshed = await client.post("/auth/refresh", json=body)
    assert refreshed.json()["user"]["name"] == "Robert"
    token = {"Authorization": f"Bearer {refreshed.json()['access_token']}"}
    assert (await client.post("/auth/sign-out", headers=token)).status_code == 204
    ended = await client.post(
        "/auth/refresh", json={"refresh_token": refreshed.json()["refresh_token"]}
    )
    assert (ended.status_code, ended.json()["code"]) == (401, "invalid_refresh_token")
    assert (await client.delete("/users/me", headers=token)).status_code == 204
    wrong = await client.post("/auth/sign-in", json=BOB)
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")


async def test_an_administrator_bans_a_user_who_is_locked_out_of_the_routes(
    client: Client,
) -> None:
    admin = await client.as_user("admin@example.com", admin=True)
    ann = await client.as_user("ann@example.com")
    assert (await admin.get("/users")).status_code == 200
    assert (await ann.get("/users")).json()["code"] == "not_admin"
    banned = await admin.post(f"/users/{ann.user.id}/ban", json={"seconds": 3600})
    assert banned.json()["is_active"] is False
    assert (await ann.get("/users/me")).json()["code"] == "user_banned"
    assert (await admin.delete(f"/users/{ann.user.id}/ban")).json()["is_active"] is True
    assert (await ann.get("/users/me")).status_code == 200


async def test_what_the_backend_lacks_is_501_and_the_rest_is_healthy(client: Client) -> None:
    ann = await client.as_user("ann@example.com")
    sessions = await ann.get("/auth/sessions")
    assert (sessions.status_code, sessions.json()["code"]) == (501, "not_supported")
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_route_gets_the_official_client_as_its_caller(client: Client) -> None:
    ann = await client.as_user("ann@example.com")
    other = await client.as_user("other@example.com")
    for who in (ann, ann, other):
        assert (await who.post("/notes")).status_code == 201
    assert (await ann.get("/seen")).json() == [2, 3]
    assert (await other.get("/seen")).json() == [1, 3]
