"""Those who are present by way of this process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

from amphibase.errors import TooManyRequests
from amphibase.messages.encoding import PresenceHint, encode_hint
from amphibase.messages.listener import MessageTransport, logger
from amphibase.messages.presence_store import (
    BEAT_SECONDS,
    MAX_PRESENCES,
    PresenceStore,
    StoredPresence,
)

IDS_A_HINT = 100
CLOSE_SECONDS = 5


class ProcessMembers:
    """Keeps the presences of this process in the store, for as long as they hold.

    A loop says now and then that the process is alive, and removes those who have gone: many at
    once where they go at once, again where it fails.

    Args:
        learn: gets the ids of the processes that are alive, after each beat.

    Attributes:
        process: the id of this process, new for each backend.
    """

    def __init__(
        self,
        transport: MessageTransport,
        store: PresenceStore,
        learn: Callable[[frozenset[str]], None],
    ) -> None:
        self.process = uuid4().hex
        self._transport = transport
        self._store = store
        self._learn = learn
        self._users = 0
        self._members: dict[str, StoredPresence] = {}
        self._gone: dict[str, StoredPresence] = {}
        self._lapsed: set[str] = set()
        self._removing = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._is_closed = False

    @asynccontextmanager
    async def needed(self) -> AsyncIterator[None]:
        """Say that the process is alive, and learn which others are, during the block."""
        self._users += 1
        self._start()
        try:
            yield
        finally:
            self._users -= 1
            self._wake.set()

    async def put(self, stored: StoredPresence) -> None:
        """Store a presence.

        Raises:
            TooManyRequests: the topic is full.
            Unavailable: it could not be stored, and is absent.
        """
        id = stored.presence.id
        self._members[id] = stored
        self._gone.pop(id, None)
        await self._write(self._put(stored))

    async def remove(self, id: str) -> None:
        """Remove a presence now; where that fails, it is tried again later. Raises Unavailable."""
        self.drop(id)
        await self._remove_gone()

    def drop(self, id: str) -> None:
        """Remove a presence soon."""
        stored = self._members.pop(id, None)
        if stored is not None:
            self._gone[id] = stored
            self._wake.set()

    async def close(self) -> None:
        """Remove all."""
        for id in list(self._members):
            self.drop(id)
        self._is_closed = True
        self._wake.set()
        if self._loop is not None:
            await asyncio.wait([self._loop], timeout=CLOSE_SECONDS)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._remove_gone()
        except Exception as error:
            logger.warning("Those who were present are removed by other processes: %s", error)

    async def _write(self, write: Coroutine[Any, Any, None]) -> None:
        """Store something in a task of its own: were it cancelled half-way, a removal could
        overtake it."""
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        await asyncio.shield(task)

    async def _put(self, stored: StoredPresence) -> None:
        try:
            await self._store_and_hint(stored)
        except BaseException:
            self.drop(stored.presence.id)
            raise

    async def _store_and_hint(self, stored: StoredPresence) -> None:
        if not await self._store.put(stored, MAX_PRESENCES):
            raise TooManyRequests(f"{stored.topic} is full: {MAX_PRESENCES} are there")
        await self._hint(stored.topic, [stored.presence.id])

    async def _remove_gone(self) -> None:
        async with self._removing:
            gone = dict(self._gone)
            if not gone:
                return
            if self._writes:
                await asyncio.wait(self._writes)
            await self._store.remove(gone.values())
            by_topic: defaultdict[str, list[str]] = defaultdict(list)
            for id, stored in gone.items():
                by_topic[stored.topic].append(id)
            for topic, ids in by_topic.items():
                await self._hint(topic, ids)
            for id in gone:
                self._gone.pop(id, None)

    async def _hint(self, topic: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), IDS_A_HINT):
            hint = PresenceHint(topic, ids[start : start + IDS_A_HINT])
            await self._transport.send(encode_hint(hint))

    def _start(self) -> None:
        if self._loop is None:
            self._loop = asyncio.create_task(self._run())

    async def _run(self) -> None:
        next_beat = 0.0
        clock = asyncio.get_running_loop().time
        while not self._is_closed and (self._users or self._members or self._gone):
            self._wake.clear()
            try:
                await self._remove_gone()
                if clock() >= next_beat:
                    await self._beat()
                    next_beat = clock() + BEAT_SECONDS
            except Exception as error:
                logger.warning("Who is present could not be written: %s", error)
                next_beat = 0.0
            await self._sleep(max(0.0, next_beat - clock()) or BEAT_SECONDS)
        self._loop = None

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _beat(self) -> None:
        beat = await self._store.beat(self.process)
        self._learn(beat.alive)
        if not beat.was_alive:  # the others have removed its members
            self._lapsed.update(self._members)
        await self._restore()

    async def _restore(self) -> None:
        """Store those again who have lapsed; with the next beat those for whom it fails."""
        for id in list(self._lapsed):
            stored = self._members.get(id)
            if stored is not None:
                try:
                    await self._write(self._store_and_hint(stored))
                except TooManyRequests as error:
                    logger.warning("A presence is not shown: %s", error)
                    continue
            self._lapsed.discard(id)
