"""Who is present, across the processes of a backend."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amphibase.backend import Caller, RepositorySource, TopicAddress
from amphibase.errors import AmphibaseError
from amphibase.messages.access import require_reader, require_writer
from amphibase.messages.encoding import PresenceHint
from amphibase.messages.listener import MessageTransport, TransportListener
from amphibase.messages.presence_members import ProcessMembers
from amphibase.messages.presence_room import PresenceRoom
from amphibase.messages.presence_store import PresenceStore
from amphibase.messages.presence_stream import CallerPresence, PresenceStream


class PresenceHub:
    """Opens the presence of topics for the subscribers of this process.

    Args:
        listener: gives the hints of other processes to `notice` while a topic is open.
        source: of the rows that the rules of topics look at.
        max_queued: how many events may wait for one subscriber.
    """

    def __init__(
        self,
        transport: MessageTransport,
        store: PresenceStore,
        listener: TransportListener,
        source: RepositorySource,
        max_queued: int,
    ) -> None:
        self._store = store
        self._listener = listener
        self._source = source
        self._max_queued = max_queued
        self._rooms: dict[str, PresenceRoom] = {}
        self._members = ProcessMembers(transport, store, self._keep_processes)

    @asynccontextmanager
    async def open(self, address: TopicAddress, caller: Caller) -> AsyncIterator[PresenceStream]:
        """Open the presence of a topic for a caller, who is absent until they track themselves."""

        async def require_access(is_tracked: bool) -> None:
            await require_reader(address, caller, self._source)
            if is_tracked:
                await require_writer(address, caller, self._source)

        await require_access(False)
        presence = CallerPresence(address, caller, self._source, self._members)
        async with self._listener.listening(), self._members.needed(), self._room(address) as room:
            stream = PresenceStream(room, presence, self._max_queued, require_access)
            room.streams.add(stream)
            try:
                yield stream
            finally:
                room.streams.discard(stream)
                stream.leave()

    def notice(self, hint: PresenceHint) -> None:
        """Read again what a hint says."""
        if room := self._rooms.get(hint.topic):
            room.notice(hint.ids)

    def end_all(self, error: AmphibaseError) -> None:
        """End every stream."""
        for room in self._rooms.values():
            room.end(error)

    async def close(self) -> None:
        """Let all of this process be absent."""
        for room in self._rooms.values():
            room.close()
        await self._members.close()

    @asynccontextmanager
    async def _room(self, address: TopicAddress) -> AsyncIterator[PresenceRoom]:
        room = self._rooms.get(address.name)
        if room is None or room.has_ended:
            room = self._rooms[address.name] = PresenceRoom(address.name, self._store)
        room.users += 1
        try:
            await room.loaded()
            yield room
        finally:
            room.users -= 1
            if not room.users:
                room.close()
                if self._rooms.get(address.name) is room:
                    del self._rooms[address.name]

    def _keep_processes(self, alive: frozenset[str]) -> None:
        for room in self._rooms.values():
            room.keep_processes(alive)
