"""supabase-py walks through rows with both of its clients, as it comes and unchanged."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from postgrest.exceptions import APIError
from supabase import AsyncClientOptions, ClientOptions, acreate_client, create_client

from amphibase.testing.supabase import LocalSupabase

SCHEMA = (Path(__file__).parent / "schema.sql").read_bytes()
PASSWORD = "correct horse battery"


class Clients:
    """Makes clients of one kind; `do` makes what either returns the same."""

    def __init__(self, kind: str, project: LocalSupabase) -> None:
        self._kind = kind
        self._project = project
        self._async = httpx.AsyncClient()
        self._sync = httpx.Client()

    async def close(self) -> None:
        self._sync.close()
        await self._async.aclose()

    async def make(self, key: str) -> Any:
        if self._kind == "async":
            options = AsyncClientOptions(auto_refresh_token=False, httpx_client=self._async)
            return await acreate_client(self._project.url, key, options)
        simple = ClientOptions(auto_refresh_token=False, httpx_client=self._sync)
        return create_client(self._project.url, key, simple)

    async def signed_up(self, email: str) -> Any:
        client = await self.make(self._project.anon_key)
        await self.do(client.auth.sign_up, {"email": email, "password": PASSWORD})
        return client

    async def service(self) -> Any:
        return await self.make(self._project.service_role_key)

    async def do(self, method: Any, *arguments: Any) -> Any:
        if inspect.iscoroutinefunction(method):
            return await method(*arguments)
        return await asyncio.to_thread(method, *arguments)

    async def data(self, query: Any) -> Any:
        return (await self.do(query.execute)).data

    async def rejected(self, query: Any) -> str | None:
        """The code that a query is rejected with."""
        with pytest.raises(APIError) as raised:
            await self.do(query.execute)
        return raised.value.code


@pytest.fixture(params=["sync", "async"])
async def clients(
    request: pytest.FixtureRequest, local_supabase: LocalSupabase
) -> AsyncIterator[Clients]:
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute(SCHEMA)
    made = Clients(request.param, local_supabase)
    yield made
    await made.close()


async def test_rows_are_written_read_and_counted(clients: Clients) -> None:
    ann = await clients.signed_up("ann@example.com")
    rows = [{"title": "one", "stars": 1}, {"title": "two", "stars": 2}]
    first, second = await clients.data(ann.table("notes").insert(rows))
    await clients.data(ann.table("labels").insert({"note_id": first["id"], "name": "red"}))
    changed = {"id": second["id"], "title": "due", "stars": 2}
    assert (await clients.data(ann.table("notes").upsert(changed)))[0]["title"] == "due"
    starred = ann.table("notes").update({"stars": 9}).eq("id", first["id"])
    assert [row["stars"] for row in await clients.data(starred)] == [9]
    embedded = ann.table("notes").select("title, labels(name)").gt("stars", 3).single()
    assert await clients.data(embedded) == {"title": "one", "labels": [{"name": "red"}]}
    counted = ann.table("notes").select("*", count="exact").order("id").range(0, 0)
    response = await clients.do(counted.execute)
    assert (response.count, len(response.data)) == (2, 1)
    either = ann.table("notes").select("title").or_("title.eq.one,stars.in.(2)").order("title")
    assert await clients.data(either) == [{"title": "due"}, {"title": "one"}]
    assert await clients.data(ann.rpc("add", {"a": 1, "b": 2})) == 3
    gone = ann.table("notes").delete().eq("title", "due")
    assert len(await clients.data(gone)) == 1
    assert await clients.rejected(ann.table("nope").select("*")) == "PGRST205"
    assert await clients.rejected(ann.table("notes").select("*").eq("id", "x")) == "22P02"


async def test_a_user_sees_and_changes_nothing_of_another(clients: Clients) -> None:
    ann = await clients.signed_up("ann@example.com")
    bob = await clients.signed_up("bob@example.com")
    (note,) = await clients.data(ann.table("notes").insert({"title": "mine"}))
    assert await clients.data(ann.table("notes").select("*")) == [note]
    assert await clients.data(bob.table("notes").select("*")) == []
    assert await clients.data(bob.table("notes").update({"title": "x"}).eq("id", note["id"])) == []
    assert await clients.data(bob.table("notes").delete().eq("id", note["id"])) == []
    stolen = bob.table("notes").insert({"title": "x", "owner": note["owner"]})
    assert await clients.rejected(stolen) == "42501"
    service = await clients.service()
    assert await clients.data(service.table("notes").select("*")) == [note]
