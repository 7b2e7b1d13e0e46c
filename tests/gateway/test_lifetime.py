"""A service opens what it needs once, and closes when nobody needs it."""

import asyncio
from contextlib import suppress

import pytest
from tests.gateway.conftest import ProjectDatabase

from amphibase.database.engine import Database, PoolOptions
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.gateway.lifetime import CALLER_ROLES, Lifetime, check_rights


async def nothing() -> None:
    pass


async def test_many_who_come_first_open_it_once() -> None:
    opened = []

    async def open() -> None:
        opened.append(True)
        await asyncio.sleep(0)

    lifetime = Lifetime(open, nothing)
    await asyncio.gather(*(lifetime.start() for _ in range(5)))
    await lifetime.start()
    assert opened == [True]


async def test_what_could_not_be_opened_is_tried_again() -> None:
    tries = []

    async def open() -> None:
        tries.append(True)
        if len(tries) == 1:
            raise Unavailable

    lifetime = Lifetime(open, nothing)
    with pytest.raises(Unavailable):
        await lifetime.start()
    await lifetime.start()
    assert len(tries) == 2


async def test_it_closes_when_the_last_request_has_ended() -> None:
    closed = []

    async def close() -> None:
        closed.append(True)

    lifetime = Lifetime(nothing, close)
    with suppress(ZeroDivisionError), lifetime.request():
        with lifetime.request():
            closing = asyncio.create_task(lifetime.close())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert closed == []
        raise ZeroDivisionError
    await closing
    assert closed == [True]


async def missing_right(url: str, table: str, admin: str) -> str:
    database = Database(url, PoolOptions(size=1))
    try:
        with pytest.raises(ConfigurationError) as caught:
            await check_rights(database, table, admin, CALLER_ROLES)
    finally:
        await database.close()
    return caught.value.detail


async def test_a_right_that_the_role_of_a_service_lacks_is_one_line(
    project: ProjectDatabase,
) -> None:
    storage = ("storage.objects", "supabase_storage_admin")
    assert await missing_right(project.authenticator, *storage) == (
        "The role authenticator does not own storage.objects: connect as supabase_storage_admin, "
        "or GRANT supabase_storage_admin TO authenticator"
    )
    assert await missing_right(project.roles.auth_admin, "auth.users", "supabase_auth_admin") == (
        "The role supabase_auth_admin may not become anon, authenticated, service_role: "
        "GRANT authenticator TO supabase_auth_admin"
    )
    assert await missing_right(project.owner, "storage.missing", "supabase_storage_admin") == (
        "The database has no table storage.missing"
    )
