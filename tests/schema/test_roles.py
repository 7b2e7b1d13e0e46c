"""The roles and functions that row level security stands on: made where they may be, reported where
they may not."""

import asyncio
import os
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from tests.commands import SECONDS, Forked
from tests.schema.application import application_on
from tests.schema.callers import note_in, run
from tests.servers import new_server

from amphibase.errors import ConfigurationError
from amphibase.postgres import Server, find_binaries
from amphibase.schema.migrations import roles


@pytest.fixture(scope="module", params=["found", "18"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for these tests alone, which make roles; they are the same in all databases.

    It is the one that is found first, and one after version 16, which changed who may do what.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "found":
            patch.setenv("PATH", f"{find_binaries(int(request.param))}:{os.environ['PATH']}")
        with new_server() as server:
            yield server


@pytest.fixture
def bare(own_server: Server) -> Iterator[Server]:
    """The same without any roles and databases of a test."""
    yield own_server
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        databases = connection.execute(
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname != 'postgres'"
        )
        for (name,) in databases.fetchall():
            own_server.drop_database(name)
        made = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' AND rolname != 'postgres'"
        )
        if names := [Identifier(name) for (name,) in made]:
            connection.execute(SQL("DROP ROLE {}").format(SQL(", ").join(names)))


def has_16(server: Server) -> bool:
    with psycopg.connect(server.url) as connection:
        return connection.info.server_version >= 160000


def in_database(server: Server, name: str) -> str:
    return make_url(server.url).set(database=name).render_as_string(hide_password=False)


def as_admin(url: str, statement: Any) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(statement)
        return rows.fetchall() if rows.description else []


def database_of(server: Server, user: str, option: str = "") -> str:
    """A database that belongs to a new user, as that user."""
    url = server.create_database(user)
    name = Identifier(user)
    as_admin(url, SQL("CREATE ROLE {} LOGIN PASSWORD 'x' " + option).format(name))
    as_admin(url, SQL("ALTER DATABASE {} OWNER TO {}").format(name, name))
    as_admin(url, SQL("ALTER SCHEMA public OWNER TO {}").format(name))
    return make_url(url).set(username=user, password="x").render_as_string(hide_password=False)


async def test_who_may_not_make_roles_is_explained_an_administrator_is_to_run(
    bare: Server,
) -> None:
    """Upgrades go on without them; starts, and revisions with policies, say one line."""
    user = "App-user"
    url = database_of(bare, user)
    words = r'^RLS: .*\(role anon, role authenticated, membership of "App-user" in anon.*run in it:'
    async with application_on(url, rls=True) as application:
        assert len(await application.upgrade()) == 5
        assert await application.differences() == [
            "role anon is missing from the database",
            "role authenticated is missing from the database",
            'membership of "App-user" in anon is missing from the database',
            'membership of "App-user" in authenticated is missing from the database',
            "USAGE of schema auth for anon is missing from the database",
            "USAGE of schema auth for authenticated is missing from the database",
            "USAGE of schema public for anon is missing from the database",
            "USAGE of schema public for authenticated is missing from the database",
        ]
        with pytest.raises(ConfigurationError, match=words):
            await application.require_current()
        note_in(application)
        attempts: list[Callable[[], Awaitable[Any]]] = [
            partial(application.revision, "notes"),
            application.ensure,
        ]
        for attempt in attempts:
            with pytest.raises(ConfigurationError, match=words) as failure:
                await attempt()
            assert "\n" not in str(failure.value)
        application.write(
            "notes",
            "0002",
            'op.execute("CREATE POLICY amphibase_users_select ON users TO anon USING (true)")',
        )
        with pytest.raises(ConfigurationError, match=words):
            await application.upgrade()
        (application.settings.migrations_dir / "notes.py").unlink()

        (statements,) = re.findall("run in it: (.*)$", str(failure.value))
        as_admin(in_database(bare, user), statements.encode())
        await application.ensure()
        await application.require_current()
        assert await application.differences() == []
        await run(application, "SET LOCAL ROLE anon", "SET LOCAL ROLE authenticated")


async def test_what_was_taken_away_is_reported_one_by_one(bare: Server) -> None:
    """Functions and schemas too, each with its statement; an upgrade makes them again."""
    url = database_of(bare, "app", "CREATEROLE")
    async with application_on(url, rls=True) as application:
        await application.ensure()
        await application.require_current()
        await run(application, "DROP FUNCTION auth.uid()", "REVOKE USAGE ON SCHEMA auth FROM anon")
        words = (
            r"\(function auth\.uid\(\), USAGE of schema auth for anon\).*: CREATE FUNCTION "
            r"auth\.uid\(\) RETURNS uuid .*; GRANT USAGE ON SCHEMA auth TO anon;$"
        )
        with pytest.raises(ConfigurationError, match=words):
            await application.require_current()
        await application.upgrade()
        await application.require_current()


async def test_who_may_make_roles_becomes_their_member(bare: Server) -> None:
    """Able to take the role, without having its privileges; BYPASSRLS needs more than that."""
    url = database_of(bare, "app", "CREATEROLE")
    async with application_on(url, rls=True) as application:
        await application.upgrade()
        await run(application, "SET LOCAL ROLE anon", "SET LOCAL ROLE authenticated")
    query = "SELECT rolname::text, rolcanlogin, rolinherit, rolbypassrls FROM pg_roles "
    ours = "WHERE rolname IN ('anon', 'authenticated', 'service_role') ORDER BY 1"
    assert as_admin(bare.url, SQL(query + ours)) == [
        ("anon", False, False, False),
        ("authenticated", False, False, False),
        ("service_role", False, False, False),
    ]
    if has_16(bare):
        inherited = "SELECT pg_has_role('app', 'anon', 'USAGE')"
        assert as_admin(bare.url, SQL(inherited)) == [(False,)]


async def test_a_superuser_makes_a_service_role_that_is_not_restricted(bare: Server) -> None:
    """As on Supabase."""
    async with application_on(bare.create_database("app"), rls=True) as application:
        await application.upgrade()
    query = "SELECT rolbypassrls FROM pg_roles WHERE rolname = 'service_role'"
    assert as_admin(bare.url, SQL(query)) == [(True,)]


@pytest.mark.parametrize("commit", [True, False])
async def test_roles_created_in_two_databases_at_the_same_moment(
    bare: Server, commit: bool
) -> None:
    """The second waits for the first to end, and finds them made, or makes them."""
    urls = (make_url(database_of(bare, name, "CREATEROLE")) for name in ("app_a", "app_b"))
    first, second = (create_engine(url.set(drivername="postgresql+psycopg")) for url in urls)
    failures: list[BaseException] = []

    def make() -> None:
        try:
            with second.begin() as connection:
                roles.create_missing(connection)
        except BaseException as error:
            failures.append(error)

    with first.connect() as connection:
        roles.create_missing(connection)
        waiting = threading.Thread(target=make)
        waiting.start()
        await asyncio.sleep(0.5)
        assert waiting.is_alive()
        if commit:
            connection.commit()
        else:
            connection.rollback()
    await asyncio.to_thread(waiting.join, 60)
    assert failures == []
    with second.begin() as connection:
        lacking = [each.subject for each in roles.missing_objects(connection)]
    # Since 16, who did not make a role needs an administrator's grant to become it.
    member = [f"membership of app_b in {role}" for role in ("anon", "authenticated")]
    assert lacking == (member if commit and has_16(bare) else [])
    first.dispose()
    second.dispose()


def test_upgrades_of_many_new_databases_at_once_succeed(bare: Server, tmp_path: Path) -> None:
    """As when the processes of a test suite start."""
    errors = tmp_path / "errors"
    processes = [
        Forked(
            ["amphibase", "db", "upgrade"],
            tmp_path,
            {"DATABASE_URL": bare.create_database(f"app{number}")},
            [Path(os.devnull), Path(os.devnull), errors],
        )
        for number in range(4)
    ]
    assert [process.wait(SECONDS) for process in processes] == [0] * 4
    assert errors.read_text() == ""
