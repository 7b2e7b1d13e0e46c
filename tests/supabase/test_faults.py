"""What happens to requests when the network or the project fails: repeated where that is safe,
and a clear error where it is not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from tests.supabase.fault_proxy import BAD_GATEWAY, SERVER_BUSY, FaultProxy, fault_proxy
from tests.supabase.fault_proxy import too_many_requests as too_many
from tests.supabase_projects import settings_of, wait_for_schema

from amphibase import SERVICE, AmphibaseError, Caller, TooManyRequests, Unavailable
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.supabase import retry
from amphibase.supabase.backend import SupabaseBackend
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.retry import RetryingClient
from amphibase.testing.supabase import LocalSupabase

PATH = "/t_faults"


@pytest.fixture(scope="session", autouse=True)
def _table(shared_supabase: LocalSupabase) -> None:
    with psycopg.connect(shared_supabase.db_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE public.t_faults (id int); GRANT ALL ON public.t_faults TO service_role"
        )
    wait_for_schema(shared_supabase)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)


@pytest.fixture
async def proxy(supabase: LocalSupabase) -> AsyncIterator[FaultProxy]:
    with psycopg.connect(supabase.db_url, autocommit=True) as connection:
        connection.execute("TRUNCATE t_faults")
    async with fault_proxy(supabase.url) as opened:
        yield opened


@pytest.fixture
async def client(supabase: LocalSupabase, proxy: FaultProxy) -> AsyncIterator[SupabaseClient]:
    settings = settings_of(supabase, supabase_url=proxy.url)
    opened = SupabaseClient(SupabaseProject.of(settings), RetryingClient(timeout=60))
    yield opened
    await opened.close()


async def read(client: SupabaseClient) -> list[Any]:
    rows: list[Any] = (await client.request("rest", "GET", PATH, SERVICE)).json()
    return rows


async def write(client: SupabaseClient, **options: Any) -> None:
    await client.request("rest", "POST", PATH, SERVICE, json={"id": 1}, **options)


@pytest.mark.parametrize(
    "fault", ["drop", "lose", "cut", SERVER_BUSY, BAD_GATEWAY, too_many(0)], ids=str
)
async def test_a_read_is_repeated(
    client: SupabaseClient, proxy: FaultProxy, fault: str | bytes
) -> None:
    await write(client)
    proxy.faults = [fault, fault]
    assert await read(client) == [{"id": 1}]
    assert proxy.requests == 4


async def test_a_read_that_fails_again_and_again_is_an_error(
    client: SupabaseClient, proxy: FaultProxy
) -> None:
    proxy.faults = ["drop"] * 10
    with pytest.raises(Unavailable, match="cannot be reached"):
        await read(client)
    assert proxy.requests == retry.ATTEMPTS


@pytest.mark.parametrize("fault", ["drop", "lose", "cut", SERVER_BUSY], ids=str)
async def test_a_write_is_sent_once_and_its_loss_is_an_error(
    client: SupabaseClient, proxy: FaultProxy, fault: str | bytes
) -> None:
    proxy.faults = [fault]
    with pytest.raises(Unavailable):
        await write(client, headers={"Prefer": "return=representation"})
    assert proxy.requests == 1
    assert len(await read(client)) == (1 if fault in ("lose", "cut") else 0)


async def test_a_write_that_is_idempotent_is_repeated(
    client: SupabaseClient, proxy: FaultProxy
) -> None:
    proxy.faults = ["drop"]
    await write(client, idempotent=True)
    assert len(await read(client)) == 1


class Refusing(httpx.AsyncHTTPTransport):
    """Refuses the first connections."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.refusals -= 1
        if self.refusals >= 0:
            raise httpx.ConnectError("refused")
        return await super().handle_async_request(request)


async def test_a_write_that_could_not_be_sent_is_sent_again(
    supabase: LocalSupabase, proxy: FaultProxy
) -> None:
    settings = settings_of(supabase, supabase_url=proxy.url)
    http = RetryingClient(transport=Refusing(2))
    client = SupabaseClient(SupabaseProject.of(settings), http)
    await write(client)
    assert await read(client) == [{"id": 1}]
    await client.close()


async def test_a_long_wait_is_left_to_the_caller(client: SupabaseClient, proxy: FaultProxy) -> None:
    proxy.faults = [too_many(3600)]
    with pytest.raises(TooManyRequests) as caught:
        await read(client)
    assert caught.value.retry_after == 3600
    assert proxy.requests == 1


async def test_a_slow_project_is_an_error_and_stops_nobody_else(
    client: SupabaseClient, proxy: FaultProxy
) -> None:
    client._http.timeout = httpx.Timeout(60, read=3)
    proxy.faults = [response := asyncio.Event()]
    slow = asyncio.create_task(read(client))
    while proxy.requests < 1:  # noqa: ASYNC110 - nothing else says so
        await asyncio.sleep(0.01)
    client._http.timeout = httpx.Timeout(60)
    assert await read(client) == []
    assert not slow.done()
    with pytest.raises(Unavailable, match="too long"):
        await slow
    assert proxy.requests == 2
    response.set()


async def test_the_official_client_does_not_multiply_the_repetitions(
    client: SupabaseClient, proxy: FaultProxy
) -> None:
    proxy.faults = [SERVER_BUSY] * 20
    with pytest.raises(Exception, match="503"):
        await client.official(SERVICE).table("t_faults").select("*").execute()
    assert proxy.requests == retry.ATTEMPTS


async def test_a_body_that_is_cut_while_it_is_streamed_is_an_error(
    client: SupabaseClient, proxy: FaultProxy
) -> None:
    await write(client)
    proxy.faults = ["cut"]
    with pytest.raises(Unavailable):
        async with client.stream("rest", "GET", PATH, SERVICE) as response:
            await response.aread()


async def test_an_account_whose_response_was_lost_is_created_once(
    supabase: LocalSupabase, proxy: FaultProxy
) -> None:
    settings = settings_of(supabase, supabase_url=proxy.url)
    backend = SupabaseBackend(settings, load_keys(settings))
    proxy.faults = ["lose"]
    account = await backend.accounts.create("ann@example.com")
    assert await backend.accounts.get_by_email("ann@example.com") == account
    proxy.faults = ["drop"]
    with pytest.raises(Unavailable):
        await backend.accounts.create("bob@example.com")
    assert await backend.accounts.get_by_email("bob@example.com") is None
    await backend.close()


async def test_a_lost_refresh_gets_the_same_tokens(
    supabase: LocalSupabase, proxy: FaultProxy
) -> None:
    settings = settings_of(supabase, supabase_url=proxy.url)
    backend = SupabaseBackend(settings, load_keys(settings))
    signed_in = await backend.accounts.sign_up("ann@example.com", "correct horse battery")
    assert signed_in.tokens is not None
    proxy.faults = ["lose", SERVER_BUSY]
    refreshed = await backend.accounts.refresh(signed_in.tokens.refresh_token)
    assert refreshed.tokens is not None
    again = await backend.accounts.refresh(refreshed.tokens.refresh_token)
    assert again.account == refreshed.account
    await backend.close()


async def test_an_error_shows_no_token(client: SupabaseClient, proxy: FaultProxy) -> None:
    caller = Caller("authenticated", uuid4(), token="a.secret.token")
    proxy.faults = ["drop"] * 10
    with pytest.raises(AmphibaseError) as caught:
        await client.request("rest", "GET", PATH, caller)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caller)
