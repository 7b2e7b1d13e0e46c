"""Publishes changes to those who have subscribed to them and may see them."""

from collections.abc import Iterator, Mapping, Sequence

from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.gateway.realtime.changes.binding import Binding
from amphibase.gateway.realtime.changes.lane import Lane
from amphibase.gateway.realtime.changes.round import ChangeSubscriber, TimeLimit
from amphibase.gateway.realtime.changes.slow_lane import SlowLane
from amphibase.replication.change import Relation, RowChange

LIMIT = TimeLimit(milliseconds=250, statements_seconds=0.5)

MAX_PAIRS = 1_000_000
"""Of changes and bindings that are decided about together; so many take some 20 MB."""


class Publisher:
    """The subscriptions of one project.

    Whose policies take too long goes on in a lane of its own, in the same order, so that all others
    do not wait for it.

    Args:
        database: as a role that may become the roles of subscribers.
    """

    def __init__(self, database: PipelineDatabase) -> None:
        self._lane = Lane(database, LIMIT)
        self._slow = SlowLane(database)
        self._number = 0

    async def prepare(self, role: str, bindings: Sequence[Binding]) -> None:
        """Prepare for the bindings of a subscriber that has a role; see `Lane.prepare`."""
        names = {(each.schema, each.table) for each in bindings if not each.is_wildcard}
        await self._lane.prepare(role, names)

    def add(self, subscriber: ChangeSubscriber, bindings: Sequence[Binding]) -> None:
        """Publish the changes of the bindings to a subscriber from now on, and no others."""
        if subscriber in self._slow:
            self._slow.replace(subscriber, bindings)
        else:
            self._lane.add(subscriber, bindings)

    def remove(self, subscriber: ChangeSubscriber) -> None:
        """Publish nothing more to a subscriber."""
        self._lane.remove(subscriber)
        self._slow.remove(subscriber)

    async def close(self) -> None:
        """Close the connections."""
        await self._slow.close()
        await self._lane.close()

    async def publish(self, changes: Sequence[RowChange]) -> None:
        """Send changes to those who may see them, in their order.

        Raises:
            Unavailable: the database cannot be reached.
            psycopg.Error: the connection has ended.
        """
        for subscriber, bindings in self._slow.release().items():
            self._lane.add(subscriber, bindings)
        relations = {change.relation for change in changes}
        counts = {relation: self._lane.wants(relation) for relation in relations}
        for block in _blocks(changes, counts):
            await self._publish(block)

    async def _publish(self, block: Sequence[RowChange]) -> None:
        self._number += 1
        candidates = self._lane.candidates(block)
        if candidates:
            wanted = [change for change in block if change.relation in candidates]
            outcome = await self._lane.deliver(wanted, candidates)
            for subscriber in {each.subscriber for each in outcome.slow} | outcome.undecided:
                if subscriber in self._lane:
                    self._slow.enter(subscriber, self._lane.remove(subscriber), self._number)
        self._slow.put(self._number, block)


def _blocks(
    changes: Sequence[RowChange], counts: Mapping[Relation, int]
) -> Iterator[Sequence[RowChange]]:
    """Divide changes, so that what is wanted of each block fits into memory."""
    block: list[RowChange] = []
    size = 0
    for change in changes:
        count = counts[change.relation]
        if block and size + count > MAX_PAIRS:
            yield block
            block, size = [], 0
        block.append(change)
        size += count
    if block:
        yield block
