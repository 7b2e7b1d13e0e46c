"""Connections whose opening is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from sqlalchemy.engine import make_url

from amphibase.database.connecting import connect
from amphibase.database.engine import Database
from amphibase.database.url import to_conninfo


async def _cancel_at_every_step(open_and_close: Callable[[], Awaitable[object]]) -> list[object]:
    """Cancel later and later, and return the exceptions, which keep what psycopg had begun."""
    kept: list[object] = []
    for step in range(40):
        opening = asyncio.ensure_future(open_and_close())
        await asyncio.sleep(step / 4000)
        opening.cancel()
        kept += await asyncio.gather(opening, return_exceptions=True)
    assert any(isinstance(result, asyncio.CancelledError) for result in kept)
    return kept


def _create_and_drop_database(url: str) -> None:
    """Wait for every process of the server to take note, as `DROP DATABASE` does."""
    conninfo = to_conninfo(make_url(url).set(database="postgres"))
    name = f"{make_url(url).database}_dropped"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '60s'")
        connection.execute(f"CREATE DATABASE {name}".encode())
        connection.execute(f"DROP DATABASE {name}".encode())


@pytest.mark.parametrize("pooled", [False, True])
async def test_an_opening_that_is_cancelled_does_not_hold_up_the_server(
    postgres_url: str, pooled: bool
) -> None:
    database = Database(postgres_url)

    async def open_and_close() -> None:
        if pooled:
            async with database.read():
                pass
            await database.close()
        else:
            await (await connect(to_conninfo(database.url))).close()

    kept = await _cancel_at_every_step(open_and_close)
    await asyncio.to_thread(_create_and_drop_database, postgres_url)
    kept.clear()
    await database.close()  # which none of them may have come to
