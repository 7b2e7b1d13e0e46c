"""What every socket and every request of Realtime works with."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.gateway.realtime import database_messages
from amphibase.gateway.realtime.authorization import Authorization
from amphibase.gateway.realtime.changes import check
from amphibase.gateway.realtime.changes.publisher import Publisher
from amphibase.gateway.realtime.errors import TooManyMessages
from amphibase.gateway.realtime.frames import Push
from amphibase.gateway.realtime.rates import AverageRate
from amphibase.gateway.realtime.settings import RealtimeSettings
from amphibase.gateway.realtime.topics import Subscriber, Topics
from amphibase.redaction import redacted_logger
from amphibase.replication.change import RowChange
from amphibase.replication.change_source import StreamFailed
from amphibase.replication.feed import Feed

logger = redacted_logger("amphibase.gateway.realtime")

PUBLICATIONS = (check.PUBLICATION, database_messages.PUBLICATION)
SLOT_PREFIX = "amphibase_realtime"


class Socket(Protocol):
    """A connected client."""

    @property
    def needs_feed(self) -> bool:
        """Whether a channel needs what the database sends."""

    def restart(self) -> None:
        """Close the connection, because the service begins anew."""

    def lose_changes(self, reason: str) -> None:
        """Let channels join again that may have missed what the database sent."""


class RealtimeContext:
    """The sockets and topics of one project, what limits them, and what the database sends."""

    def __init__(self, settings: RealtimeSettings, database_url: str, tokens: KeyRing) -> None:
        self.settings = settings
        self.tokens = tokens
        self.database = PipelineDatabase(database_url, settings.db_pool)
        self.authorization = Authorization(self.database)
        self.publisher = Publisher(self.database)
        self.feed = Feed(
            database_url, PUBLICATIONS, SLOT_PREFIX, self._deliver, self._lose, self._needs_feed
        )
        self.topics = Topics()
        self.sockets: set[Socket] = set()
        self.joins = AverageRate(settings.max_joins)
        self.presence_messages = AverageRate(settings.max_presence_messages)
        self._messages = AverageRate(settings.max_messages)
        self._joining = 0

    async def close(self) -> None:
        """Close the connections to the database."""
        await self.feed.close()
        await self.publisher.close()
        await self.database.close()

    async def start_feed(self) -> str | None:
        """Let what the database sends reach the topics from now on.

        Returns:
            Why it does not; None where it does.
        """
        try:
            await self.feed.start()
        except StreamFailed as error:
            logger.warning("What the database sends does not reach Realtime: %s", error)
            return str(error)
        return None

    async def _deliver(self, changes: Sequence[RowChange]) -> None:
        rows = []
        for change in changes:
            if database_messages.is_message(change):
                database_messages.deliver(change, self.topics)
            else:
                rows.append(change)
        await self.publisher.publish(rows)

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Count a channel as one that may need what the database sends, until the block ends."""
        self._joining += 1
        try:
            yield
        finally:
            self._joining -= 1

    def _needs_feed(self) -> bool:
        return self._joining > 0 or any(socket.needs_feed for socket in self.sockets)

    def _lose(self, reason: str) -> None:
        """Let clients join again, since they may have missed what the database sent."""
        for socket in list(self.sockets):
            socket.lose_changes(reason)

    def broadcast(self, push: Push, receivers: Iterable[Subscriber]) -> None:
        """Send a message to its receivers. Raises TooManyMessages, and sends it to none."""
        receivers = list(receivers)
        if not self._messages.admits(1 + len(receivers)):
            raise TooManyMessages
        for receiver in receivers:
            receiver.push(push)

    def is_too_large(self, size: int) -> bool:
        """Return whether a payload of so many bytes may not be sent."""
        limit = self.settings.max_payload_kilobytes
        return bool(limit) and size > limit * 1000 + 500
