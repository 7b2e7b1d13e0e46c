"""The presence on one topic, as this process knows it."""

import asyncio
from collections.abc import Collection, Iterable, Sequence

from amphibase.backend import (
    Presence,
    PresenceEvent,
    PresenceJoin,
    PresenceLeave,
    PresenceUpdate,
)
from amphibase.errors import AmphibaseError, Unavailable
from amphibase.messages.listener import logger
from amphibase.messages.presence_store import PresenceStore, StoredPresence
from amphibase.messages.presence_stream import PresenceStream


class PresenceRoom:
    """Those who are on a topic, and the streams of this process that follow them.

    A hint says whose presence may have changed, and the store has what it is now. So it does not
    matter in which order hints come, or how often.

    Attributes:
        streams: get the events.
        users: how many streams need the room, those that wait for it among them.
        has_ended: whether its state may be wrong from now on.
    """

    def __init__(self, topic: str, store: PresenceStore) -> None:
        self.streams: set[PresenceStream] = set()
        self.users = 0
        self.has_ended = False
        self._topic = topic
        self._store = store
        self._present: dict[str, StoredPresence] = {}
        self._hinted: set[str] = set()
        self._loading = asyncio.create_task(self._load())
        self._loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._task = self._loading

    @property
    def presences(self) -> Sequence[Presence]:
        """Those who are there, in the order in which they came."""
        return tuple(stored.presence for stored in self._present.values())

    async def loaded(self) -> None:
        """Wait until the state is read. Raises Unavailable."""
        await asyncio.shield(self._loading)

    def notice(self, ids: Iterable[str]) -> None:
        """Read the presences of these ids again soon."""
        self._hinted.update(ids)
        if self._task.done():
            self._task = asyncio.create_task(self._refresh())

    def keep_processes(self, alive: Collection[str]) -> None:
        """Read those again whose process has ended, or had not begun when it was looked at."""
        if ended := [id for id, each in self._present.items() if each.process not in alive]:
            self.notice(ended)

    def end(self, error: AmphibaseError) -> None:
        """Raise the error after what waits in each stream."""
        self.has_ended = True
        for stream in self.streams:
            stream.end(error)

    def close(self) -> None:
        """Stop to read."""
        self.has_ended = True

    async def _load(self) -> None:
        self._present = _by_id(await self._store.read(self._topic))
        self._task = asyncio.create_task(self._refresh())  # what was hinted at meanwhile

    async def _refresh(self) -> None:
        """Read what was hinted at, also while it is read."""
        try:
            while self._hinted and not self.has_ended:
                ids, self._hinted = self._hinted, set()
                now = _by_id(await self._store.read(self._topic, ids))
                ids_in_order = [*(ids - now.keys()), *now]
                self._publish(
                    [event for id in ids_in_order for event in self._replace(id, now.get(id))]
                )
        except Exception as error:
            logger.warning("Who is on %s could not be read: %s", self._topic, error)
            self.end(error if isinstance(error, AmphibaseError) else Unavailable())

    def _replace(self, id: str, now: StoredPresence | None) -> Iterable[PresenceEvent]:
        before = self._present.get(id)
        if now is None:
            if before is not None:
                yield PresenceLeave(self._present.pop(id).presence)
            return
        self._present[id] = now
        if before is None:
            yield PresenceJoin(now.presence)
        elif before.text != now.text:
            yield PresenceUpdate(now.presence)

    def _publish(self, events: Sequence[PresenceEvent]) -> None:
        for stream in self.streams:
            for event in events:
                stream.put(event)


def _by_id(stored: Iterable[StoredPresence]) -> dict[str, StoredPresence]:
    return {each.presence.id: each for each in stored}
