"""Accounts in a Supabase project, and records on its Postgres or on a database of one's own."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import psycopg
import pytest
from fastapi import FastAPI
from tests.models import Note
from tests.supabase_projects import prepare_files, settings_of

from amphibase import SERVICE, Amphibase, ConfigurationError, Repository, SessionEnded, UserBanned
from amphibase.gateway.project import EXPOSE
from amphibase.http.state import State
from amphibase.settings.application import Settings
from amphibase.testing.client import Client, open_client
from amphibase.testing.supabase import LocalSupabase

ANN = {"email": "ann@example.com", "password": "correct horse battery"}
BOB = {"email": "bob@example.com", "password": "correct horse battery"}


@pytest.fixture(params=["its own Postgres", "SQLite"])
def settings(
    request: pytest.FixtureRequest, local_supabase: LocalSupabase, tmp_path: Path
) -> Settings:
    """Records on the project's own Postgres, or on a SQLite file."""
    prepare_files(local_supabase)
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute(EXPOSE)
    overrides: dict[str, Any] = {"records": "sql"}
    if request.param == "its own Postgres":
        overrides = {"supabase_db_url": local_supabase.db_url}
    return settings_of(local_supabase, data_dir=tmp_path / "data", **overrides)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    db = Amphibase(settings)
    app = db.mount(FastAPI())
    notes = Annotated[Repository[Note], db.repository(Note)]

    @app.post("/notes", status_code=201)
    async def add(title: str, notes: notes) -> str:
        note: Any = await notes.add(Note(title=title, stars=1))
        return str(note.id)

    @app.get("/notes")
    async def list_notes(notes: notes) -> list[str]:
        return [note.title for note in await notes.list()]

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[Client]:
    async with open_client(app) as opened:
        yield opened


@pytest.fixture
def state(app: FastAPI, client: Client) -> State:
    db: Amphibase = app.state.amphibase
    return db.state


async def sign_up(client: Client, body: dict[str, str]) -> dict[str, str]:
    response = await client.post("/auth/sign-up", json=body)
    assert response.status_code == 201, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def test_users_of_the_project_own_rows_of_the_database(client: Client, state: State) -> None:
    ann, bob = await sign_up(client, ANN), await sign_up(client, BOB)
    assert (await client.post("/notes?title=one", headers=ann)).status_code == 201
    assert (await client.get("/notes", headers=ann)).json() == ["one"]
    assert (await client.get("/notes", headers=bob)).json() == []
    assert (await client.get("/notes")).json() == []
    assert (await client.get("/users/me", headers=ann)).json()["email"] == "ann@example.com"
    text = ann | {"Content-Type": "text/plain"}
    stored = await client.put("/files/uploads/a.txt", content=b"ten", headers=text)
    assert stored.status_code == 201, stored.text
    assert (await client.get("/health/ready")).status_code == 200
    assert (await client.delete("/users/me", headers=ann)).status_code == 204
    assert await state.backend.repository(Note, SERVICE).count() == 0
    assert await state.backend.accounts.get_by_email("ann@example.com") is None


async def test_the_database_has_transactions_and_the_project_the_accounts(
    client: Client, state: State, settings: Settings
) -> None:
    accounts = state.backend.accounts
    caller = await accounts.authenticate((await sign_up(client, ANN))["Authorization"].split()[1])
    with contextlib.suppress(ZeroDivisionError):
        async with state.backend.transaction(caller) as transaction:
            await transaction.repository(Note).add(Note(title="one", stars=1))
            raise ZeroDivisionError
    assert await state.backend.repository(Note, caller).count() == 0
    assert caller.user_id is not None
    await accounts.ban(caller.user_id, timedelta(hours=1))
    if settings.supabase_database is None:
        await accounts.authenticate(str(caller.token))
    else:
        with pytest.raises((UserBanned, SessionEnded)):
            await accounts.authenticate(str(caller.token))


@pytest.mark.parametrize("settings", ["its own Postgres"], indirect=True)
async def test_default_privileges_give_callers_nothing(
    client: Client, local_supabase: LocalSupabase
) -> None:
    """Those of an older project include TRUNCATE, which no policy limits."""
    query = "SELECT has_table_privilege('anon', 't_notes', 'TRUNCATE')"
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute("CREATE TABLE plain (id int)")
        plain = connection.execute(query.replace("t_notes", "plain").encode()).fetchone()
        assert (plain, connection.execute(query).fetchone()) == ((True,), (False,))


@pytest.mark.parametrize("settings", ["its own Postgres"], indirect=True)
async def test_the_official_client_sees_what_the_policies_allow(
    client: Client, state: State
) -> None:
    """Both ways lead to the same rows, by the same policies."""
    tokens = [await sign_up(client, body) for body in (ANN, BOB)]
    await client.post("/notes?title=one", headers=tokens[0])
    titles = []
    for token in tokens:
        caller = await state.backend.accounts.authenticate(token["Authorization"].split()[1])
        rows = await state.backend.supabase(caller).table("t_notes").select("title").execute()
        titles.append(rows.data)
    assert titles == [[{"title": "one"}], []]


async def test_policies_cannot_be_switched_off(local_supabase: LocalSupabase) -> None:
    with pytest.raises(ConfigurationError, match="RLS: the tables of a Supabase project"):
        settings_of(local_supabase, rls=False)
    with pytest.raises(ConfigurationError, match="SUPABASE_DB_URL: must name"):
        settings_of(local_supabase, supabase_db_url="sqlite:///app.db")
    assert settings_of(local_supabase).rls is True
