"""Fixtures for the tests of an application.

They come with the package; write one fixture, `app`, that returns your mounted application, and
ask for:

- `client`: an httpx client on it, started; `await client.as_user("ann@example.com")` is another
  that is signed in.
- `emails`: the emails that it sends: `await emails.next_token_to("ann@example.com")`.
- `session`: a database session that the application's `Session` uses too, rolled back at the end.
- `local_supabase`: a Supabase project of the test's own, which needs no application.

They work with pytest-asyncio (auto mode) and with anyio's plugin.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy.ext.asyncio import AsyncSession

    from amphibase.testing.client import Client
    from amphibase.testing.databases import TestDatabases
    from amphibase.testing.emails import SentEmails
    from amphibase.testing.supabase import LocalSupabase, Projects


@pytest.fixture(scope="session")
def amphibase_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator["TestDatabases"]:
    """Provide databases that `client` copies for each test."""
    from amphibase.testing.databases import TestDatabases

    databases = TestDatabases(tmp_path_factory.mktemp("amphibase"))
    yield databases
    databases.close()


@pytest.fixture
async def client(app: "FastAPI", amphibase_databases: "TestDatabases") -> AsyncIterator["Client"]:
    """Open an httpx client on the started application.

    An application that reads its settings from the environment gets a database and a data folder
    of the test's own. What the test puts into `app.dependency_overrides` goes with it.
    """
    from contextlib import nullcontext

    from amphibase.http.dependencies import mounted_on
    from amphibase.testing.client import open_client

    db = mounted_on(app)
    isolation = (
        amphibase_databases.copy(db, await amphibase_databases.template(db))
        if db.reads_environment
        else nullcontext()
    )
    overrides = dict(app.dependency_overrides)
    try:
        with isolation:
            async with open_client(app) as opened:
                yield opened
    finally:
        app.dependency_overrides.clear()
        app.dependency_overrides.update(overrides)


@pytest.fixture
def emails(app: "FastAPI", client: "Client") -> "SentEmails":
    """Return the emails that the started application sends."""
    from amphibase.http.dependencies import mounted_on
    from amphibase.testing.emails import SentEmails

    return SentEmails(mounted_on(app).settings.data_dir / "outbox")


@pytest.fixture
async def session(app: "FastAPI", client: "Client") -> AsyncIterator["AsyncSession"]:
    """Open a session in a transaction that is rolled back when the test ends.

    The application's own `Session` dependency is this one meanwhile, so that the test sees what
    requests do, and nothing of it stays.
    """
    from sqlalchemy.ext.asyncio import AsyncSession

    from amphibase.backend import SERVICE
    from amphibase.http.dependencies import current_session, mounted_on

    async with mounted_on(app).state.backend.session(SERVICE, writes=False) as outer:
        connection = await outer.connection()
        opened = AsyncSession(
            connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )

        async def override() -> AsyncIterator[AsyncSession]:
            yield opened
            await opened.commit()

        app.dependency_overrides[current_session] = override
        try:
            yield opened
        finally:
            app.dependency_overrides.pop(current_session, None)
            await opened.close()
            await outer.rollback()


@pytest.fixture(scope="session")
def local_supabase_projects() -> Iterator["Projects"]:
    """Start the process that serves `local_supabase`."""
    from amphibase.testing.supabase import serve_projects

    with serve_projects() as projects:
        yield projects


@pytest.fixture
def local_supabase(local_supabase_projects: "Projects") -> Iterator["LocalSupabase"]:
    """Open a local Supabase: its own database, keys and buckets, all new; gone after the test."""
    with local_supabase_projects.open() as project:
        yield project
