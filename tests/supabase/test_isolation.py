"""Fifty users over one HTTP/2 connection: nobody ever sees another's rows, whatever happens to the
requests between."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from tests.contract.signing_up import PASSWORD, tokens_of
from tests.supabase.http2_proxy import PATIENCE_SECONDS, Http2Proxy, http2_proxy
from tests.supabase_projects import settings_of, wait_for_schema

from amphibase import ANONYMOUS, SERVICE, Caller, Unavailable
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.supabase import retry
from amphibase.supabase.backend import SupabaseBackend
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.retry import RetryingClient
from amphibase.testing.supabase import LocalSupabase

USERS = 50
ROUNDS = 12
TABLE = """
    CREATE TABLE public.t_isolation (owner_id uuid, title text);
    GRANT SELECT ON public.t_isolation TO anon;
    GRANT SELECT, INSERT ON public.t_isolation TO authenticated, service_role;
    ALTER TABLE public.t_isolation ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON public.t_isolation USING (owner_id = auth.uid());
"""


class Interruption(Exception):
    """Raised by the code between a request and its response."""


@pytest.fixture(scope="session", autouse=True)
def _table(shared_supabase: LocalSupabase) -> None:
    with psycopg.connect(shared_supabase.db_url, autocommit=True) as connection:
        connection.execute(TABLE)
    wait_for_schema(shared_supabase)


@pytest.fixture
async def proxy(supabase: LocalSupabase) -> AsyncIterator[Http2Proxy]:
    async with http2_proxy(supabase.url) as opened:
        yield opened


@pytest.fixture
async def backend(supabase: LocalSupabase, proxy: Http2Proxy) -> AsyncIterator[SupabaseBackend]:
    settings = settings_of(supabase, supabase_url=proxy.url)
    limits = httpx.Limits(max_connections=1)  # on which hundreds of requests wait for each other
    http = RetryingClient(http1=False, http2=True, limits=limits, timeout=PATIENCE_SECONDS)
    client = SupabaseClient(SupabaseProject.of(settings), http)
    opened = SupabaseBackend(settings, load_keys(settings), client)
    yield opened
    await opened.close()


async def owners_seen(client: SupabaseClient, caller: Caller) -> set[str]:
    response = await client.request("rest", "GET", "/t_isolation", caller)
    return {row["owner_id"] for row in response.json()}


async def add_rows(client: SupabaseClient, ids: list[UUID]) -> None:
    rows = [{"owner_id": str(id), "title": f"{id} {number}"} for id in ids for number in range(3)]
    await client.request("rest", "POST", "/t_isolation", SERVICE, json=rows)


async def act(client: SupabaseClient, caller: Caller, choice: random.Random) -> None:
    """Send requests of a user, of which some are given up in the middle, and check the others."""
    own = {str(caller.user_id)}
    for _ in range(ROUNDS):
        match choice.randrange(6):
            case 0:
                task = asyncio.create_task(owners_seen(client, caller))
                await asyncio.sleep(choice.random() * 0.02)
                task.cancel()
                outcome = (await asyncio.gather(task, return_exceptions=True))[0]
                assert isinstance(outcome, asyncio.CancelledError) or outcome == own
            case 1:
                try:
                    async with asyncio.timeout(choice.random() * 0.02):
                        assert await owners_seen(client, caller) == own
                except TimeoutError:
                    pass
            case 2:
                with pytest.raises(Interruption):
                    async with client.stream("rest", "GET", "/t_isolation", caller):
                        raise Interruption
            case 3:
                official = client.official(caller)
                result: Any = await official.table("t_isolation").select("owner_id").execute()
                assert {row["owner_id"] for row in result.data} == own
            case _:
                assert await owners_seen(client, caller) == own


async def test_users_never_see_each_others_rows(
    backend: SupabaseBackend, proxy: Http2Proxy
) -> None:
    client = backend.client
    users = [Caller("authenticated", uuid4()) for _ in range(USERS)]
    await add_rows(client, [user.user_id for user in users if user.user_id])
    proxy.delay = 0.005
    choice = random.Random(11)
    async with asyncio.TaskGroup() as group:
        for user in users:
            group.create_task(act(client, user, random.Random(choice.random())))
        for _ in range(ROUNDS):
            group.create_task(anonymous_sees_nothing(client))
    assert proxy.connections == 1
    assert len(await owners_seen(client, SERVICE)) >= USERS


async def anonymous_sees_nothing(client: SupabaseClient) -> None:
    assert await owners_seen(client, ANONYMOUS) == set()


async def test_signing_in_and_refreshing_leaves_nothing_behind(
    backend: SupabaseBackend, proxy: Http2Proxy
) -> None:
    """Refreshes that are given up in the middle, between other users' requests."""
    accounts, client = backend.accounts, backend.client
    names = ["ann", "bob", "cid"]
    signed_in = [await accounts.sign_up(f"{name}@example.com", PASSWORD) for name in names]
    callers = [await accounts.authenticate(tokens_of(each).access_token) for each in signed_in]
    await add_rows(client, [each.account.id for each in signed_in])
    proxy.delay = 0.02

    async def given_up(refresh_token: str) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await accounts.refresh(refresh_token)

    for _ in range(3):
        await asyncio.gather(*(given_up(tokens_of(each).refresh_token) for each in signed_in))
        for caller in callers:
            assert await owners_seen(client, caller) == {str(caller.user_id)}
        assert await owners_seen(client, ANONYMOUS) == set()
    proxy.delay = 0
    for before, caller in zip(signed_in, callers, strict=True):
        after = await accounts.refresh(tokens_of(before).refresh_token)
        assert after.account.id == caller.user_id


async def test_a_connection_that_the_server_leaves_is_survived(
    backend: SupabaseBackend, proxy: Http2Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.01)
    users = [Caller("authenticated", uuid4()) for _ in range(10)]
    await add_rows(backend.client, [user.user_id for user in users if user.user_id])
    proxy.delay = 0.05
    proxy.delayed.clear()
    reads = [asyncio.create_task(owners_seen(backend.client, user)) for user in users]
    await proxy.delayed.wait()
    proxy.leave()
    for user, owners in zip(users, await asyncio.gather(*reads), strict=True):
        assert owners == {str(user.user_id)}
    proxy.delayed.clear()
    write = asyncio.create_task(add_rows(backend.client, [uuid4()]))
    await proxy.delayed.wait()
    proxy.leave()
    with pytest.raises(Unavailable):
        await write
