"""The catalog is read again for as long as the service lives."""

import asyncio

import psycopg
import pytest
from tests.gateway.conftest import ProjectDatabase

from amphibase.gateway.rest.schema import cache as schema_cache
from amphibase.gateway.rest.schema.cache import SchemaCache
from amphibase.gateway.rest.schema.catalog import Catalog, Name
from amphibase.gateway.rest.schema.introspection import read_catalog


async def no_notification(channel: str, payload: str) -> None:
    """Nobody waits for what was notified before."""


async def test_a_catalog_that_cannot_be_served_leaves_the_one_before_and_the_next_is_read(
    project: ProjectDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_cache, "RETRY_SECONDS", (600,))  # but it is notified of the next
    seen: asyncio.Queue[frozenset[Name]] = asyncio.Queue()

    async def load(connection: psycopg.AsyncConnection) -> Catalog:
        catalog = await read_catalog(connection, ["public"])
        seen.put_nowait(frozenset(catalog.tables))
        if Name("public", "bad") in catalog.tables:
            raise KeyError("bad")
        return catalog

    cache = SchemaCache(project.authenticator, load, no_notification)
    await cache.start()
    try:
        async with await psycopg.AsyncConnection.connect(project.owner, autocommit=True) as owner:
            assert await seen.get() == frozenset()
            await owner.execute("CREATE TABLE bad ()")
            assert Name("public", "bad") in await asyncio.wait_for(seen.get(), 30)
            assert not cache.current.tables
            await owner.execute("DROP TABLE bad; CREATE TABLE good ()")
            while Name("public", "good") not in await asyncio.wait_for(seen.get(), 30):
                pass
            assert list(cache.current.tables) == [Name("public", "good")]
    finally:
        await cache.close()


async def test_a_catalog_that_cannot_be_served_after_a_lost_connection_is_read_again(
    project: ProjectDatabase,
) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()
    responses = iter(["served", "refused", "served"])

    async def load(connection: psycopg.AsyncConnection) -> Catalog:
        catalog = await read_catalog(connection, ["public"])
        response = next(responses)
        seen.put_nowait(response)
        if response == "refused":
            raise KeyError("bad")
        return catalog

    cache = SchemaCache(project.authenticator, load, no_notification)
    await cache.start()
    try:
        async with await psycopg.AsyncConnection.connect(project.owner, autocommit=True) as owner:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'authenticator' AND datname = current_database()"
            )
        assert [await asyncio.wait_for(seen.get(), 30) for _ in range(3)] == [
            "served", "refused", "served",
        ]  # fmt: skip
    finally:
        await cache.close()
