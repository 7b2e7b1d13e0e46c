"""An application whose accounts are in one database and whose records are in another."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI
from sqlalchemy import inspect
from tests import commands
from tests.column_models import Receipt
from tests.conftest import SECRET
from tests.models import Note

from amphibase import SERVICE, Amphibase, Caller, ConfigurationError, Repository, load_settings
from amphibase.backend.combined import CombinedBackend
from amphibase.build import open_backend
from amphibase.database.engine import Database
from amphibase.http.state import State
from amphibase.models import User
from amphibase.settings.application import Settings
from amphibase.testing.client import Client, open_client

ANN = {"email": "ann@example.com", "password": "correct horse battery"}


@pytest.fixture(
    params=["sqlite and sqlite", "postgres and sqlite", "sqlite and postgres", "rls and sqlite"]
)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Records on the first, accounts and files on the second."""
    records, accounts = (
        f"sqlite:///{tmp_path}/{name}.db" if kind == "sqlite" else postgres_url(request)
        for name, kind in zip(("records", "accounts"), request.param.split(" and "), strict=True)
    )
    return load_settings(
        database_url=records,
        accounts_database_url=accounts,
        files_database_url=accounts,
        rls=request.param.startswith("rls"),
        secret_key=SECRET,
        data_dir=tmp_path / "data",
        rate_limits="off",
    )


def postgres_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    db = Amphibase(settings)
    app = db.mount(FastAPI())
    notes = Annotated[Repository[Note], db.repository(Note)]

    @app.post("/notes", status_code=201)
    async def add(title: str, notes: notes) -> str:
        note: Any = await notes.add(Note(title=title, stars=1))
        return str(note.id)

    return app


@pytest.fixture
async def state(app: FastAPI, client: Client) -> State:
    db: Amphibase = app.state.amphibase
    return db.state


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[Client]:
    async with open_client(app) as opened:
        yield opened


async def tables_of(settings: Settings, part: Any) -> set[str]:
    url = settings.database_of(part)
    assert url is not None
    database = Database(url)
    async with database.read() as connection:
        names = await connection.run_sync(
            lambda sync: {
                name
                for schema in inspect(sync).get_schema_names()
                for name in inspect(sync).get_table_names(schema)
            }
        )
    await database.close()
    return names


async def test_each_database_has_the_tables_of_its_own_part(
    state: State, settings: Settings
) -> None:
    assert isinstance(state.backend, CombinedBackend)
    records = await tables_of(settings, "records")
    accounts = await tables_of(settings, "accounts")
    assert {"users", "t_notes"} <= records
    assert not {"users", "t_notes"} <= accounts
    assert {name.removeprefix("auth_") for name in accounts} >= {"refresh_tokens", "identities"}
    assert not {name.removeprefix("auth_") for name in records} & {"refresh_tokens", "identities"}


async def test_a_user_signs_up_in_one_and_writes_to_the_other(client: Client, state: State) -> None:
    signed_up = await client.post("/auth/sign-up", json=ANN | {"name": "Ann"})
    token = {"Authorization": f"Bearer {signed_up.json()['access_token']}"}
    assert (await client.get("/users/me", headers=token)).json()["name"] == "Ann"
    assert (await client.post("/notes?title=one", headers=token)).status_code == 201
    user_id = (await client.get("/users/me", headers=token)).json()["id"]
    (note,) = await state.backend.repository(Note, SERVICE).list()
    assert str(note.owner_id) == user_id
    stored = await client.put(
        "/files/uploads/a.txt", content=b"ten", headers=token | {"Content-Type": "text/plain"}
    )
    assert stored.status_code == 201
    assert (await client.get("/health/ready")).status_code == 200
    assert (await client.delete("/users/me", headers=token)).status_code == 204
    assert await state.backend.repository(Note, SERVICE).count() == 0
    assert (await client.get("/users/me", headers=token)).status_code == 401


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_what_a_deleted_account_left_is_swept(client: Client, state: State) -> None:
    backend = state.backend
    ids = {}
    for name in ("gone", "referred", "present"):
        user = (await client.as_user(f"{name}@example.com")).user
        ids[name] = user.id
        caller = Caller("authenticated", user.id)
        await backend.repository(Note, caller).add(Note(title=name, stars=1))
        await state.files.put(caller, "uploads", f"{name}.txt", chunks(b"content"))
    await backend.repository(Receipt, SERVICE).add(Receipt(user_id=ids["referred"]))
    for name in ("gone", "referred"):
        await backend.accounts.delete(ids[name])
    items = [orphan async for orphan in state.users.sweep()]
    assert {(each.id, each.deleted, each.files) for each in items} == {
        (ids["gone"], False, 1),
        (ids["referred"], False, 1),
    }
    swept = [orphan async for orphan in state.users.sweep(delete=True)]
    assert {(each.id, each.deleted) for each in swept} == {
        (ids["gone"], True),
        (ids["referred"], False),
    }
    titles = {note.title for note in await backend.repository(Note, SERVICE).list()}
    assert titles == {"referred", "present"}
    page = await backend.files.list(SERVICE, "uploads")
    assert [file.path for file in page.items] == ["present.txt", "referred.txt"]
    left = await backend.repository(User, SERVICE).get(ids["referred"])
    assert left is not None
    assert (left.is_active, left.email) == (False, f"deleted-{left.id}@invalid")


async def test_the_commands_reach_both_databases(settings: Settings, tmp_path: Path) -> None:
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "ACCOUNTS_DATABASE_URL": settings.accounts_database_url.get_secret_value(),
        "FILES_DATABASE_URL": settings.files_database_url.get_secret_value(),
        "ENVIRONMENT": "production",
        "SECRET_KEY": SECRET,
    }
    with pytest.raises(ConfigurationError, match="amphibase db upgrade"):
        async with open_backend(settings.model_copy(update={"environment": "production"})):
            pass
    upgraded = commands.run(tmp_path, environment, "db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    current = commands.run(tmp_path, environment, "db", "current")
    for chain in ("auth", "storage", "application"):
        assert chain in current.stdout
    assert "behind" not in current.stdout
    result = commands.run(
        tmp_path, environment, "users", "create", "ann@example.com", input="x" * 9
    )
    assert result.returncode == 0, result.stderr
    swept = commands.run(tmp_path, environment, "users", "sweep", "--yes")
    assert swept.stdout == "0 without an account, with 0 files; 0 deleted\n"


def test_a_command_names_the_databases_of_which_one_is_not_reached(tmp_path: Path) -> None:
    environment = {"ACCOUNTS_DATABASE_URL": "postgresql://ann:secret@127.0.0.1:1/accounts"}
    done = commands.run(tmp_path, environment, "db", "current")
    assert done.returncode == 2
    assert (
        "(DATABASE_URL is sqlite:///data/amphibase.db, "
        "ACCOUNTS_DATABASE_URL is postgresql://ann@127.0.0.1:1/accounts): " in done.stderr
    )
