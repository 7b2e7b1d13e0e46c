"""The database rejects the user that the application itself connects as."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy.engine import make_url
from tests.conftest import SECRET
from tests.models import Note

from amphibase import SERVICE, Base, Forbidden, load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.database.engine import Database
from amphibase.schema.commands import ensure
from amphibase.sql.backend import SqlBackend


@pytest.fixture(params=[False, True], ids=["predicate", "rls"])
async def backend(postgres_url: str, request: pytest.FixtureRequest) -> AsyncIterator[SqlBackend]:
    """A backend whose user has no right to any table."""
    settings = load_settings(database_url=postgres_url, secret_key=SECRET, rls=request.param)
    database = Database(settings.database)
    await ensure(database, settings, Base.metadata)
    await database.close()
    user = make_url(postgres_url).database or ""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'clerk'".encode())
        url = make_url(postgres_url).set(username=user, password="clerk")
        address = url.render_as_string(hide_password=False)
        rejected = load_settings(database_url=address, secret_key=SECRET, rls=request.param)
        opened = SqlBackend(rejected, load_keys(rejected))
        yield opened
        await opened.close()
        connection.execute(f"DROP ROLE {user}".encode())


async def test_the_service_is_told_and_not_given_an_empty_list(backend: SqlBackend) -> None:
    notes = backend.repository(Note, SERVICE)
    for work in (notes.list, notes.count, notes.exists, notes.page):
        with pytest.raises(Forbidden, match="The database"):
            await work()
    with pytest.raises(Forbidden, match="The database"):
        _ = [note async for note in notes.stream()]


async def test_the_service_is_not_asked_to_sign_in(backend: SqlBackend) -> None:
    notes = backend.repository(Note, SERVICE)
    with pytest.raises(Forbidden, match="The database"):
        await notes.delete_where(everything=True)
