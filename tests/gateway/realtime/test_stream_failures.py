"""What happens to the stream of changes: it ends, its tables change, many clients leave."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.gateway.conftest import PASSWORD
from tests.gateway.realtime.api import SECONDS, Api, Wire
from tests.gateway.realtime.changes import ITEMS, ROOM, change, subscribe
from tests.gateway.realtime.conftest import Connect, on_both_sources, on_triggers, serving
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from amphibase.gateway.project import prepare
from amphibase.postgres import start
from amphibase.replication import feed
from amphibase.replication.outbox_stream import OutboxStream
from amphibase.replication.replication_stream import ReplicationStream

ALL: dict[str, Any] = {"event": "*", "schema": "shop"}


@on_both_sources
async def test_a_publication_that_is_dropped_ends_the_stream_until_it_is_back(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0.05)
    wire = await connect(api)
    await subscribe(wire, ALL)
    await api.run("DROP PUBLICATION supabase_realtime")
    try:
        lost = (await wire.receive())[4]
        assert (await wire.receive())[3] == "phx_error"
        await wire.join(ROOM, postgres_changes=[ALL])
        missing = (await wire.receive())[4]
    finally:
        await api.run("CREATE PUBLICATION supabase_realtime", ITEMS)
    for message in (lost, missing):
        assert message["status"] == "error"
        assert message["message"].endswith('publication "supabase_realtime" does not exist')
    assert (await wire.receive())[4]["message"].endswith("it has been restored")
    assert (await wire.receive())[3] == "phx_error"
    await subscribe(wire, ALL)
    await api.run("INSERT INTO shop.items (id) VALUES (1)")
    assert (await change(wire))["data"]["record"]["id"] == 1


@on_both_sources
async def test_a_table_may_change_between_its_changes(api: Api, connect: Connect) -> None:
    await api.run(ITEMS)
    wire = await connect(api)
    await subscribe(wire, ALL)
    received = []
    for statements in (
        ["INSERT INTO shop.items (id) VALUES (1)"],
        [
            "ALTER TABLE shop.items ADD extra int DEFAULT 5, DROP ok",
            "INSERT INTO shop.items (id) VALUES (2)",
        ],
        [
            "ALTER TABLE shop.items ALTER extra DROP DEFAULT, ALTER extra TYPE text USING 'x'",
            "INSERT INTO shop.items (id, extra) VALUES (3, 'y')",
        ],
        [
            "ALTER TABLE shop.items RENAME TO things",
            "ALTER TABLE shop.things RENAME id TO number",
            "INSERT INTO shop.things (number) VALUES (4)",
        ],
    ):
        await api.run(*statements)
        received.append((await change(wire))["data"])
    before, added, typed, renamed = received
    assert ("ok" in before["record"], "ok" in added["record"]) == (True, False)
    assert [each["record"]["extra"] for each in (added, typed)] == [5, "y"]
    assert (renamed["table"], renamed["record"]["number"]) == ("things", 4)


@on_triggers
async def test_triggers_are_removed_when_no_channel_needs_them_and_are_back_for_the_next(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(feed, "UNUSED_SECONDS", 0.0)
    is_closing = asyncio.Event()
    close = OutboxStream.close

    async def slow_close(stream: OutboxStream) -> None:
        is_closing.set()
        await asyncio.sleep(0.5)
        await close(stream)

    monkeypatch.setattr(OutboxStream, "close", slow_close)
    await api.run(ITEMS)
    wire = await connect(api)
    for number in range(2):
        await subscribe(wire, ALL)  # the second time, while the triggers are being removed
        await asyncio.sleep(0.2)  # which the feed uses to look whether it is needed
        await api.run(f"INSERT INTO shop.items (id) VALUES ({number})")
        assert (await change(wire))["data"]["record"]["id"] == number
        is_closing.clear()
        await wire.reply(ROOM, "phx_leave", {})
        await wire.receive()
        await asyncio.wait_for(is_closing.wait(), SECONDS)
    await api.service._context.feed.start()  # waits until they are
    assert await _count(api.database, "realtime.outbox_readers") == 1


async def test_a_server_that_ends_amid_changes_has_skipped_none_and_says_that_it_ends(
    api: Api, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    await api.run(ITEMS)
    wire = await connect(api)
    await subscribe(wire, ALL)
    inserts = [f"INSERT INTO shop.items (id) VALUES ({number})" for number in range(20_000)]
    writing = asyncio.create_task(api.run(*inserts))
    received = [(await change(wire))["data"]["record"]["id"] for _ in range(20)]
    api.server.should_exit = True
    while (frame := await wire.receive())[3] != "system":
        received.append(frame[4]["data"]["record"]["id"])
    assert received == [*range(len(received))]
    assert not writing.done()
    assert frame[4]["message"] == "Server requested disconnect"
    with pytest.raises(ConnectionClosed) as closed:
        await wire.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert not caplog.records


@pytest.mark.long
@pytest.mark.parametrize("wal_level", ["logical", "replica"])
async def test_clients_come_back_after_postgres_was_killed_and_no_slot_is_left(
    tmp_path: Path, connect: Connect, wal_level: str
) -> None:
    settings = {"wal_level": wal_level}
    folder = tmp_path / "postgres"
    with ExitStack() as servers:
        server = servers.enter_context(start(folder, settings=settings))
        url = server.create_database("realtime")
        await prepare(url, PASSWORD, exposes_new_tables=True)
        async with serving(url) as api:
            await api.run("CREATE SCHEMA shop", "GRANT USAGE ON SCHEMA shop TO anon", ITEMS)
            wire = await connect(api)
            await subscribe(wire, ALL)
            os.kill(server.pid, signal.SIGQUIT)  # as after a crash
            assert (await wire.receive())[4]["status"] == "error"
            assert (await wire.receive())[3] == "phx_error"
            servers.enter_context(start(folder, settings=settings, port=server.port))
            assert isinstance(await wire.join(ROOM, postgres_changes=[ALL]), dict)
            assert (await wire.receive())[4]["message"] == "Subscribed to PostgreSQL"
            await api.run("INSERT INTO shop.items (id) VALUES (1)")
            assert (await change(wire))["data"]["record"]["id"] == 1
            assert await _count(url, "pg_replication_slots") == (wal_level == "logical")


@pytest.mark.long
async def test_clients_come_back_after_the_server_has_given_up_the_slot(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"wal_level": "logical", "max_slot_wal_keep_size": "16MB"}
    with start(tmp_path / "postgres", settings=settings) as server:
        url = server.create_database("realtime")
        await prepare(url, PASSWORD, exposes_new_tables=True)
        async with serving(url) as api:
            await api.run("CREATE SCHEMA shop", "GRANT USAGE ON SCHEMA shop TO anon", ITEMS)
            wire = await connect(api)
            with monkeypatch.context() as patch:
                patch.setattr(ReplicationStream, "_report", lambda stream: None)
                await subscribe(wire, ALL)
                switch = "SELECT pg_logical_emit_message(true, '', ''), pg_switch_wal()"
                await api.run(*[switch] * 8, "CHECKPOINT")
                lost = (await wire.receive())[4]
            assert lost["status"] == "error"
            assert (await wire.receive())[3] == "phx_error"
            await subscribe(wire, ALL)
            await api.run("INSERT INTO shop.items (id) VALUES (1)")
            assert (await change(wire))["data"]["record"]["id"] == 1
            assert await _count(url, "pg_replication_slots") == 1


@pytest.mark.long
async def test_a_thousand_clients_that_leave_at_once_harm_nobody(
    api: Api, connect: Connect
) -> None:
    await api.run(ITEMS)
    staying = await connect(api)
    await subscribe(staying, ALL)
    async with AsyncExitStack() as stack:
        leaving = []
        for _ in range(1000):
            connecting = connect_websocket(api.address())
            wire = Wire(await stack.enter_async_context(connecting))
            await subscribe(wire, ALL)
            leaving.append(wire)
        writing = asyncio.create_task(
            api.run(*(f"INSERT INTO shop.items (id) VALUES ({number})" for number in range(200)))
        )
        for wire in leaving:
            wire.connection.transport.abort()
    await writing
    for number in range(200):
        assert (await change(staying))["data"]["record"]["id"] == number
    assert await staying.is_silent()
    assert len(api.service._context.sockets) == 1


async def _count(url: str, rows: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(f"SELECT count(*) FROM {rows}".encode())
        row = await cursor.fetchone()
        return int(row[0]) if row else 0
