"""Presence: who is on a topic now, in every process."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from redis import Redis
from sqlalchemy import make_url
from tests.backends import ANN, BOB
from tests.contract.conftest import opened
from tests.contract.test_messages import KINDS, messages_url_of

from amphibase import ANONYMOUS, SERVICE
from amphibase.access import authenticated, everyone
from amphibase.backend import (
    Backend,
    Presence,
    PresenceEvent,
    PresenceJoin,
    PresenceLeave,
    Presences,
    PresenceSync,
    PresenceUpdate,
    Topic,
)
from amphibase.errors import (
    Forbidden,
    InvalidValue,
    NotSupported,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
)
from amphibase.messages import delivery, presence_members
from amphibase.messages.presence_store import Beat, PresenceStore, StoredPresence
from amphibase.messages.redis import RedisPresences
from amphibase.settings.application import Settings
from amphibase.sql.presence import SqlPresences
from amphibase.supabase.presence import ProjectPresences

SECONDS = 60
"""How long a test waits for an event at most."""

STORES: Sequence[type[Any]] = (SqlPresences, ProjectPresences, RedisPresences)

ROOMS = Topic("rooms/{id}", read=everyone, write=authenticated)
ROOM = ROOMS(id=1)


@dataclass
class Processes:
    """The processes that say that they are alive; those that are stopped cannot."""

    seen: list[str] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    beating: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def stop_newest(self) -> str:
        """Stop the process that has begun last, and return its id."""
        async with self.beating:
            self.stopped.add(self.seen[-1])
            return self.seen[-1]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Watches the processes, which say it often here."""
    watched = Processes()
    monkeypatch.setattr(presence_members, "BEAT_SECONDS", 0.05)
    for store in STORES:
        beat = store.beat

        async def watched_beat(
            self: PresenceStore, process: str, beat: Callable[..., Awaitable[Beat]] = beat
        ) -> Beat:
            async with watched.beating:
                if process not in watched.seen:
                    watched.seen.append(process)
                if process in watched.stopped:
                    raise Unavailable
                return await beat(self, process)

        monkeypatch.setattr(store, "beat", watched_beat)
    return watched


def age_processes(url: str, process: str) -> None:
    """Let a process be silent for long."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(make_url(url).database or "")) as sqlite, sqlite:
            statement = "UPDATE amphibase_presence_processes SET seen_at = 0 WHERE id = ?"
            sqlite.execute(statement, [process])
        return
    if url.startswith("redis"):
        with Redis.from_url(url) as client:
            client.zadd("amphibase:processes", {process: 0})
        return
    with psycopg.connect(url) as connection:
        statement = "UPDATE amphibase.presence_processes SET seen_at = 0 WHERE id = %s"
        connection.execute(statement.encode(), [process])


async def events(presences: Presences, count: int) -> list[PresenceEvent]:
    async with asyncio.timeout(SECONDS):
        return [await anext(presences) for _ in range(count)]


async def short(presences: Presences, count: int) -> list[tuple[Any, ...]]:
    """Return the next events as tuples: their class and the payloads."""
    return [
        (type(event), *[each.payload for each in event.presences])
        if isinstance(event, PresenceSync)
        else (type(event), event.presence.payload)
        for event in await events(presences, count)
    ]


async def until(presences: Presences, payloads: Sequence[Any]) -> None:
    """Wait until those who are there have these payloads."""
    async with asyncio.timeout(SECONDS):
        while [each.payload for each in presences.state] != payloads:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
async def other_process(backend_settings: Settings, backend: Backend) -> AsyncIterator[Backend]:
    """Another backend on the same database, which shares nothing else with the first."""
    async with opened(backend_settings) as other:
        yield other


@pytest.mark.parametrize("backend_settings", ["sqlite"], indirect=True)
async def test_all_come_back_with_a_process_that_was_slow_where_one_fails_at_first(
    backend: Backend,
    backend_settings: Settings,
    other_process: Backend,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put, failing, stopped = SqlPresences.put, [Unavailable()], ""

    async def put_or_fail(self: SqlPresences, stored: StoredPresence, most: int) -> bool:
        if stopped and failing:
            raise failing.pop()
        return await put(self, stored, most)

    monkeypatch.setattr(SqlPresences, "put", put_or_fail)
    async with (
        backend.presence(ROOM, BOB) as watching,
        other_process.presence(ROOM, ANN) as phone,
        other_process.presence(ROOM, ANN) as laptop,
    ):
        await phone.track({"n": 1})
        await until(watching, [{"n": 1}])
        await laptop.track({"n": 2})
        await until(watching, [{"n": 1}, {"n": 2}])
        stopped = await processes.stop_newest()
        age_processes(messages_url_of(backend_settings), stopped)
        await until(watching, [])
        processes.stopped.clear()
        async with asyncio.timeout(SECONDS):
            while {each.payload["n"] for each in watching.state} != {1, 2}:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.mark.parametrize("backend_settings", ["sqlite"], indirect=True)
async def test_who_comes_while_the_processes_are_looked_at_stays(
    backend: Backend, other_process: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_members, "BEAT_SECONDS", 0.01)
    beat = SqlPresences.beat

    async def early_beat(self: SqlPresences, process: str) -> Beat:
        return Beat((await beat(self, process)).was_alive, frozenset([process]))

    monkeypatch.setattr(SqlPresences, "beat", early_beat)
    async with backend.presence(ROOM, BOB) as watching, other_process.presence(ROOM, ANN) as ann:
        await ann.track({"n": 1})
        assert await short(watching, 2) == [(PresenceSync,), (PresenceJoin, {"n": 1})]
        assert await watching.batch(0.1) == []


@pytest.mark.parametrize("backend_settings", KINDS, indirect=True)
class TestPresence:
    async def test_shows_each_process_who_joins_changes_and_leaves(
        self, backend: Backend, other_process: Backend
    ) -> None:
        async with backend.presence(ROOM, ANONYMOUS) as watching:
            assert await events(watching, 1) == [PresenceSync(())]
            async with other_process.presence(ROOM, ANN) as ann:
                await ann.track({"mood": "käse \0"})
                (joined,) = await events(watching, 1)
                assert isinstance(joined, PresenceJoin)
                assert joined.presence.user_id == ANN.user_id
                assert joined.presence.payload == {"mood": "käse \0"}
                await ann.track({"mood": "käse \0"})  # the same changes nothing
                await ann.track({"mood": "busy"})
                (updated,) = await events(watching, 1)
                presence = Presence(joined.presence.id, ANN.user_id, {"mood": "busy"})
                assert updated == PresenceUpdate(presence)
                async with backend.presence(ROOM, SERVICE) as late:
                    assert await events(late, 1) == [PresenceSync((presence,))]
                    assert late.state == watching.state == (presence,)
            assert await events(watching, 1) == [PresenceLeave(presence)]
            assert not watching.state

    async def test_has_each_connection_of_a_user(self, backend: Backend) -> None:
        async with (
            backend.presence(ROOM, BOB) as watching,
            backend.presence(ROOM, ANN) as phone,
            backend.presence(ROOM, ANN) as laptop,
        ):
            await phone.track({"on": "phone"})
            await until(watching, [{"on": "phone"}])
            await laptop.track({"on": "laptop"})
            await until(watching, [{"on": "phone"}, {"on": "laptop"}])
            await phone.untrack()
            await phone.untrack()
            assert await short(watching, 4) == [
                (PresenceSync,),
                (PresenceJoin, {"on": "phone"}),
                (PresenceJoin, {"on": "laptop"}),
                (PresenceLeave, {"on": "phone"}),
            ]
            assert [each.user_id for each in watching.state] == [ANN.user_id]
            await phone.track({"on": "phone"})
            assert await short(watching, 1) == [(PresenceJoin, {"on": "phone"})]
            assert [each.payload["on"] for each in watching.state] == ["laptop", "phone"]

    async def test_is_of_one_topic(self, backend: Backend) -> None:
        async with (
            backend.presence(ROOMS(id=2), ANN) as elsewhere,
            backend.presence(ROOM, BOB) as here,
        ):
            await elsewhere.track({"in": 2})
            await here.track({"in": 1})
            assert await short(here, 2) == [(PresenceSync,), (PresenceJoin, {"in": 1})]

    async def test_ends_with_a_process_that_dies_and_comes_back_with_one_that_was_slow(
        self,
        backend: Backend,
        backend_settings: Settings,
        other_process: Backend,
        processes: Processes,
        request: pytest.FixtureRequest,
    ) -> None:
        url = messages_url_of(backend_settings) or request.getfixturevalue("supabase").db_url
        if not url:
            pytest.skip("TEST_SUPABASE_DB_URL is not set")
        async with backend.presence(ROOM, BOB) as watching, other_process.presence(ROOM, ANN) as a:
            await watching.track({"n": 1})
            await a.track({"n": 2})
            assert len(await events(watching, 3)) == 3
            stopped = await processes.stop_newest()
            await asyncio.to_thread(age_processes, url, stopped)
            assert await short(watching, 1) == [(PresenceLeave, {"n": 2})]
            async with backend.presence(ROOM, BOB) as late:
                assert await short(late, 1) == [(PresenceSync, {"n": 1})]
            processes.stopped.clear()
            assert await short(watching, 1) == [(PresenceJoin, {"n": 2})]

    async def test_ends_with_a_process_that_stops(
        self, backend: Backend, backend_settings: Settings
    ) -> None:
        async with backend.presence(ROOM, BOB) as watching:
            async with opened(backend_settings) as other, other.presence(ROOM, ANN) as presences:
                await presences.track({"n": 1})
                await until(watching, [{"n": 1}])
                await other.close()
                with pytest.raises(Unavailable):
                    await events(presences, 3)
            assert await short(watching, 3) == [
                (PresenceSync,),
                (PresenceJoin, {"n": 1}),
                (PresenceLeave, {"n": 1}),
            ]

    async def test_is_for_those_whom_the_rules_admit(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with backend.presence(ROOM, ANONYMOUS) as anonymous:
            with pytest.raises(Forbidden):
                await anonymous.track({})
        readers, writers = {ANN.user_id, BOB.user_id}, {ANN.user_id}
        topic = Topic(
            "club",
            read=lambda request: request.caller.user_id in readers,
            write=lambda request: request.caller.user_id in writers,
        )()
        with pytest.raises(Forbidden):
            async with backend.presence(topic, ANONYMOUS):
                pass
        async with backend.presence(topic, BOB) as bob:
            async with backend.presence(topic, ANN) as ann:
                await ann.track({})
                await until(bob, [{}])
                monkeypatch.setattr(delivery, "RECHECK_SECONDS", 0)
                writers.clear()
                with pytest.raises(Forbidden):
                    await events(ann, 1)
            assert await short(bob, 3) == [(PresenceSync,), (PresenceJoin, {}), (PresenceLeave, {})]
            readers.clear()
            with pytest.raises(Forbidden):
                await bob.batch(0)

    @pytest.mark.parametrize(
        ("payload", "error"),
        [
            ({"a": "x" * 993}, PayloadTooLarge),
            ([1], InvalidValue),
            ({"a": object()}, InvalidValue),
            ({"a": json.loads("[" * 220 + "]" * 220)}, InvalidValue),
        ],
    )
    async def test_has_objects_of_1000_bytes(
        self, backend: Backend, payload: Any, error: type[Exception]
    ) -> None:
        async with backend.presence(ROOM, ANN) as presences:
            with pytest.raises(error):
                await presences.track(payload)
            await presences.track({"a": "x" * 992})
            assert await short(presences, 2) == [
                (PresenceSync,),
                (PresenceJoin, {"a": "x" * 992}),
            ]

    async def test_is_full_at_a_number(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(presence_members, "MAX_PRESENCES", 1)
        async with backend.presence(ROOM, ANN) as ann, backend.presence(ROOM, BOB) as bob:
            await ann.track({"n": 1})
            await ann.track({"n": 2})
            with pytest.raises(TooManyRequests, match="full"):
                await bob.track({"n": 3})
            await ann.untrack()
            await bob.track({"n": 4})
            await until(bob, [{"n": 4}])

    async def test_has_no_more_than_that_where_many_come_at_once(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(presence_members, "MAX_PRESENCES", 3)
        async with AsyncExitStack() as stack:
            opening = [backend.presence(ROOM, ANN) for _ in range(12)]
            joined = [await stack.enter_async_context(each) for each in opening]
            tracking = (each.track({}) for each in joined)
            results = await asyncio.gather(*tracking, return_exceptions=True)
            assert results.count(None) == 3
            assert [type(each) for each in results if each] == [TooManyRequests] * 9

    async def test_is_sent_anew_to_who_is_too_slow(
        self, backend: Backend, backend_settings: Settings
    ) -> None:
        settings = backend_settings.model_copy(update={"max_queued_messages": 3})
        async with (
            opened(settings) as other,
            other.presence(ROOM, BOB) as slow,
            backend.presence(ROOM, ANN) as ann,
        ):
            for number in range(5):
                await ann.track({"n": number})
                await until(slow, [{"n": number}])
            assert await short(slow, 3) == [
                (PresenceSync, {"n": 2}),
                (PresenceUpdate, {"n": 3}),
                (PresenceUpdate, {"n": 4}),
            ]

    async def test_is_left_by_who_was_disconnected_while_they_joined(
        self, backend: Backend
    ) -> None:
        async with backend.presence(ROOM, BOB) as watching:
            for cancelled_after in (0, 1, 5):
                async with backend.presence(ROOM, ANN) as ann:
                    tracking = asyncio.create_task(ann.track({"n": cancelled_after}))
                    for _ in range(cancelled_after):
                        await asyncio.sleep(0)
                    tracking.cancel()
            async with backend.presence(ROOM, ANN) as ann:
                await ann.track({"n": "last"})
                await until(watching, [{"n": "last"}])

    async def test_reads_many_changes_at_once(self, backend: Backend) -> None:
        async with backend.presence(ROOM, BOB) as watching, AsyncExitStack() as stack:
            opening = [backend.presence(ROOM, ANN) for _ in range(30)]
            joined = [await stack.enter_async_context(each) for each in opening]
            await asyncio.gather(*(each.track({"n": n}) for n, each in enumerate(joined)))
            async with asyncio.timeout(SECONDS):
                while len(watching.state) < 30:
                    await anext(watching)
            await stack.aclose()
            await until(watching, [])


@pytest.mark.requires("messages")
async def test_a_backend_with_messages_has_presence(backend: Backend) -> None:
    async with backend.presence(ROOM, ANN) as presences:
        await presences.track({"n": 1})
        assert await short(presences, 2) == [(PresenceSync,), (PresenceJoin, {"n": 1})]


@pytest.mark.parametrize("backend_settings", ["postgres"], indirect=True)
async def test_a_backend_without_messages_has_no_presence(backend_settings: Settings) -> None:
    settings = backend_settings.model_copy(update={"pool_mode": "transaction"})
    async with opened(settings) as pooled:
        with pytest.raises(NotSupported, match="messages"):
            async with pooled.presence(ROOM, ANN):
                pass
