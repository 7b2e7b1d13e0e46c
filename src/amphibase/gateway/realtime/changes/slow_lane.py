"""The lane of subscribers whose policies are slow, which delays nobody else."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import NamedTuple

import psycopg

from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.errors import Unavailable
from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.lane import TOO_SLOW, Lane
from amphibase.gateway.realtime.changes.round import ChangeSubscriber, TimeLimit
from amphibase.redaction import redacted_logger
from amphibase.replication.change import RowChange

logger = redacted_logger("amphibase.gateway.realtime")

LIMIT = TimeLimit(milliseconds=5000, statements_seconds=60)
MAX_CHANGES = 50_000
"""That may wait; so many take some 50 MB."""
STAY_SECONDS = 30
"""For how long a subscriber stays after it has come, before it is tried in the other lane."""
LOCK_SECONDS = 0.5

LAGS = "The policies of its tables are too slow for the changes that are made"


class _Waiting(NamedTuple):
    number: int
    changes: Sequence[RowChange]


class SlowLane:
    """Delivers blocks of changes in their order, behind the other lane.

    Args:
        database: as a role that may become the roles of subscribers.
    """

    def __init__(self, database: PipelineDatabase) -> None:
        self._lane = Lane(database, LIMIT)
        self._since: dict[ChangeSubscriber, int] = {}
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        self._entered = 0.0
        self._working: asyncio.Task[None] | None = None

    def __contains__(self, subscriber: ChangeSubscriber) -> bool:
        return subscriber in self._since

    def enter(self, subscriber: ChangeSubscriber, bindings: Sequence[Binding], number: int) -> None:
        """Serve a subscriber, from the block with this number on."""
        self._since[subscriber] = number
        self._entered = monotonic()
        self._lane.add(subscriber, bindings)

    def replace(self, subscriber: ChangeSubscriber, bindings: Sequence[Binding]) -> None:
        """Let a subscriber have these bindings, and none that it had before."""
        self._lane.add(subscriber, bindings)

    def remove(self, subscriber: ChangeSubscriber) -> None:
        """Deliver nothing more to a subscriber."""
        self._since.pop(subscriber, None)
        self._lane.remove(subscriber)

    def release(self) -> Mapping[ChangeSubscriber, Sequence[Binding]]:
        """Return those who have received everything, to be tried in the other lane."""
        is_idle = self._working is None or self._working.done()
        if not is_idle or monotonic() < self._entered + STAY_SECONDS:
            return {}
        released = {subscriber: self._lane.remove(subscriber) for subscriber in self._since}
        self._since.clear()
        return released

    def put(self, number: int, changes: Sequence[RowChange]) -> None:
        """Deliver a block to those who have entered, after those that wait."""
        if not self._since:
            return
        if self._size + len(changes) > MAX_CHANGES:
            self._lose(LAGS)
            return
        self._size += len(changes)
        self._waiting.append(_Waiting(number, changes))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    async def close(self) -> None:
        """End the work, and close the connection."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        await self._lane.close()

    async def _work(self) -> None:
        try:
            while self._waiting:
                waiting = self._waiting.popleft()
                await self._deliver(waiting)
                self._size -= len(waiting.changes)
        except (psycopg.Error, Unavailable) as error:
            logger.warning("Changes cannot be delivered: %s", error)
            self._lose(str(error))
        except Exception:
            logger.exception("Changes cannot be delivered")
            self._lose("an error of the gateway")

    async def _deliver(self, waiting: _Waiting) -> None:
        """Deliver a block; those for whom a lock is in the way receive it once it is not."""
        remaining = {each for each, number in self._since.items() if number <= waiting.number}
        while remaining:
            candidates = {
                relation: wanted
                for relation, named in self._lane.candidates(waiting.changes).items()
                if (wanted := [each for each in named if each[0] in remaining])
            }
            if not candidates:
                return
            outcome = await self._lane.deliver(waiting.changes, candidates)
            for recipient in outcome.slow:
                self._lane.end(recipient, f"A policy {TOO_SLOW}")
            remaining = {*outcome.undecided}.union(each.subscriber for each in outcome.slow)
            if outcome.undecided:
                await asyncio.sleep(LOCK_SECONDS)

    def _lose(self, reason: str) -> None:
        """Let all join again, since they miss what waits."""
        self._waiting.clear()
        self._size = 0
        for subscriber in [*self._since]:
            subscriber.lose_changes(reason)
            self.remove(subscriber)
