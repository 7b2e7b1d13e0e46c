"""Fixtures for the tests of the connection pool."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.database.pools import MakePool, Proxy, Server

from amphibase.database.pool import PipelinePool


@pytest.fixture
def conninfo(postgres_url: str) -> str:
    return make_conninfo(postgres_url, application_name=f"wire_{uuid.uuid4().hex}")


@pytest.fixture
def server(conninfo: str) -> Iterator[Server]:
    name = str(conninfo_to_dict(conninfo)["application_name"])
    with psycopg.connect(conninfo, autocommit=True, application_name="server") as connection:
        yield Server(connection, name)


@pytest.fixture
async def make_pool(conninfo: str) -> AsyncIterator[MakePool]:
    pools: list[PipelinePool] = []

    def make(address: str = conninfo, **options: Any) -> PipelinePool:
        pools.append(PipelinePool(address, **options))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()


@pytest.fixture
def pool(make_pool: MakePool) -> PipelinePool:
    return make_pool(size=4)


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    relay = Proxy(server.info)
    await relay.start()
    yield relay
    relay.stop()


@pytest.fixture
def proxied(conninfo: str, proxy: Proxy) -> str:
    return make_conninfo(conninfo, host="127.0.0.1", port=proxy.port, sslmode="disable")


@pytest.fixture
def role(server: Server) -> Iterator[str]:
    name = f"reader_{uuid.uuid4().hex[:8]}"
    server.execute(f"create role {name}")
    yield name
    server.execute(f"drop role {name}")


@pytest.fixture
def authenticator(postgres_url: str, role: str) -> Iterator[None]:
    """The role `authenticator`, dropped afterwards if it is new: a project that finds it on the
    server does not set it up."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        rows = connection.execute("select from pg_roles where rolname = 'authenticator'")
        if not rows.rowcount:
            connection.execute("create role authenticator noinherit")
        connection.execute(f"grant {role} to authenticator".encode())
        yield
        if not rows.rowcount:
            connection.execute("drop role authenticator")
