"""The outbox as a gateway reads it, and the tables that tests publish."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from tests.gateway.conftest import PASSWORD

from amphibase.gateway.realtime.context import PUBLICATIONS
from amphibase.gateway.service_roles import role_urls
from amphibase.replication.outbox_stream import OutboxStream

ITEMS = (
    "CREATE TABLE shop.items (id int PRIMARY KEY, n int)",
    "ALTER PUBLICATION supabase_realtime ADD TABLE shop.items",
)
LAST = (
    "CREATE TABLE IF NOT EXISTS shop.last (id int PRIMARY KEY)",
    "ALTER PUBLICATION supabase_realtime ADD TABLE shop.last",
)


async def run(url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


@asynccontextmanager
async def opened(database: str) -> AsyncIterator[OutboxStream]:
    stream = await OutboxStream.open(realtime_url(database), PUBLICATIONS)
    try:
        yield stream
    finally:
        await stream.close()


def realtime_url(database: str) -> str:
    return role_urls(database, PASSWORD).realtime_admin
