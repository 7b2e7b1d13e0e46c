"""Each subscriber receives exactly what an independent evaluator says."""

import asyncio
import json
import random
from pathlib import Path

import psycopg
import pytest
from tests.gateway.conftest import PASSWORD
from tests.gateway.realtime.api import ANON, Api, Wire
from tests.gateway.realtime.conftest import (
    REPLICATION,
    TRIGGERS,
    Connect,
    on_both_sources,
    serving,
)
from tests.gateway.realtime.random_changes import (
    ROOMS_OF_USERS,
    TABLE,
    Audience,
    audiences,
    write_all,
)

from amphibase.gateway.project import prepare
from amphibase.postgres import start

ROOM = "realtime:changes"
SECONDS = 300


async def _listen(wire: Wire, audience: Audience) -> None:
    """Receive until the marker that follows all changes."""
    while True:
        frame = json.loads(await wire.connection.recv())  # some receive little, and wait for long
        assert frame[3] == "postgres_changes", frame
        if frame[4]["data"]["table"] == "last":
            return
        audience.take(frame[4]["data"])


async def _prove(
    api: Api, connect: Connect, subscribers: int, changes: int, seed: int, *, has_rooms: bool
) -> None:
    await api.run(
        TABLE,
        ROOMS_OF_USERS if has_rooms else "",
        "CREATE TABLE shop.last (id int PRIMARY KEY)",
        "GRANT SELECT ON shop.last TO anon, authenticated, service_role",
        "ALTER PUBLICATION supabase_realtime ADD TABLE shop.last",
    )
    all_audiences = audiences(subscribers, random.Random(seed), has_rooms=has_rooms)
    listening = []
    for audience in all_audiences:
        wire = await connect(api)
        token = ANON if audience.claims is None else api.token(exp=2**31, **audience.claims)
        binding = {
            "event": audience.event, "schema": "shop", "table": "events",
            "filter": audience.condition,
        }  # fmt: skip
        last = {"event": "INSERT", "schema": "shop", "table": "last"}
        await wire.join(ROOM, token, postgres_changes=[binding, last])
        assert (await wire.receive())[4]["message"] == "Subscribed to PostgreSQL"
        listening.append(asyncio.create_task(_listen(wire, audience)))
    history = await write_all(api.database, 6, changes, seed)
    await api.run("INSERT INTO shop.last VALUES (1)")
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*listening)
    assert history.count >= changes
    assert sum(len(each.received) for each in all_audiences) > changes // 8
    for audience in all_audiences:
        audience.check(history)


@on_both_sources
@pytest.mark.parametrize("has_rooms", [True, False])
async def test_each_subscriber_receives_what_its_claims_and_filters_say(
    api: Api, connect: Connect, has_rooms: bool
) -> None:
    await _prove(api, connect, 12, 300, seed=1, has_rooms=has_rooms)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("major", "has_rooms", "way"),
    [
        (15, True, REPLICATION),
        (18, True, REPLICATION),
        (18, False, REPLICATION),
        (15, True, TRIGGERS),
        (18, False, TRIGGERS),
    ],
)
async def test_fifty_subscribers_receive_what_they_may_of_fifty_thousand_changes(
    tmp_path: Path, connect: Connect, major: int, has_rooms: bool, way: str
) -> None:
    settings = {"wal_level": "logical"}
    with start(tmp_path / "postgres", settings=settings, least=18 if major == 18 else 14) as server:
        if not server.version.startswith(f"{major}."):
            pytest.skip(f"Postgres {major} is not installed")
        url = server.create_database("realtime")
        await prepare(url, PASSWORD, exposes_new_tables=True)
        if way == TRIGGERS:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("ALTER ROLE supabase_realtime_admin NOREPLICATION")
        async with serving(url) as api:
            await api.run(
                "CREATE SCHEMA shop",
                "GRANT USAGE ON SCHEMA shop TO anon, authenticated, service_role",
            )
            await _prove(api, connect, 50, 50_000, seed=major, has_rooms=has_rooms)
