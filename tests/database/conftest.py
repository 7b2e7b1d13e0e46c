"""Fixtures for the tests of the connection pool."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.database.pools import MakeWire, Proxy, Server

from amphibase.database.pool import Wire


@pytest.fixture
def conninfo(postgres_url: str) -> str:
    return make_conninfo(postgres_url, application_name=f"wire_{uuid.uuid4().hex}")


@pytest.fixture
def server(conninfo: str) -> Iterator[Server]:
    name = str(conninfo_to_dict(conninfo)["application_name"])
    with psycopg.connect(conninfo, autocommit=True, application_name="server") as connection:
        yield Server(connection, name)


@pytest.fixture
async def make_wire(conninfo: str) -> AsyncIterator[MakeWire]:
    wires: list[Wire] = []

    def make(address: str = conninfo, **options: Any) -> Wire:
        wires.append(Wire(address, **options))
        return wires[-1]

    yield make
    for wire in wires:
        await wire.close()


@pytest.fixture
def wire(make_wire: MakeWire) -> Wire:
    return make_wire(size=4)


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
