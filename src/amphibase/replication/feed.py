"""The stream of one database: open from its first reader on, and again after a failure."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

import psycopg

from amphibase.background import uninterrupted
from amphibase.database.connecting import connect
from amphibase.redaction import redacted_logger
from amphibase.replication.change import RowChange
from amphibase.replication.change_source import (
    CONNECT_SECONDS,
    ChangeSource,
    StreamFailed,
    StreamUnused,
)
from amphibase.replication.outbox_stream import OutboxStream
from amphibase.replication.replication_stream import ReplicationStream, offers_replication

logger = redacted_logger("amphibase.replication")

RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 60.0
WATCH_SECONDS = 5.0
UNUSED_SECONDS = 60.0
"""How long a stream that costs those who write waits for somebody who needs it."""

BACK = "it has been restored"


class Feed:
    """Passes on every change that is committed after `start`, those of each row in the order of the
    commits.

    The stream is one of logical replication or, where the server does not offer that to the role,
    what triggers write to an outbox.

    Args:
        url: of the database.
        publications: whose tables it has.
        slot_prefix: what the name of its temporary slot begins with.
        deliver: gets the changes of one round; the next are read after it has returned. Changes
            that come meanwhile are one round, so that rounds grow under load.
        failed: called when changes may have been missed.
        is_needed: returns whether anybody still needs the changes.

    Attributes:
        failure: why the last attempt to open the stream failed; None where it did not.
    """

    def __init__(
        self,
        url: str,
        publications: Sequence[str],
        slot_prefix: str,
        deliver: Callable[[Sequence[RowChange]], Awaitable[None]],
        failed: Callable[[str], None],
        is_needed: Callable[[], bool],
    ) -> None:
        self._url = url
        self._publications = publications
        self._slot_prefix = slot_prefix
        self._deliver = deliver
        self._failed = failed
        self._is_needed = is_needed
        self._started_at = 0.0
        self._is_ending = False
        self._absence: str | None = None  # why there is no logical replication
        self._starting = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._retrying: asyncio.Task[None] | None = None
        self.failure: str | None = None

    async def start(self) -> None:
        """Open the stream, unless it is open. After a failure it is tried again and again.

        Raises:
            StreamFailed: the server offers none; says why.
        """
        self._started_at = monotonic()
        # Whoever waits for it may leave; what is half open would be left in the database.
        await uninterrupted(self._start())

    async def _start(self) -> None:
        async with self._starting:
            if self._reading is not None and self._is_ending:
                await asyncio.wait([self._reading])
            if self._reading is None or self._reading.done():
                try:
                    stream = await self._open()
                except StreamFailed as error:
                    self.failure = str(error)
                    if self._retrying is None or self._retrying.done():
                        self._retrying = asyncio.create_task(self._retry())
                    raise
                self._is_ending = False
                self._reading = asyncio.create_task(self._read(stream))
                if self.failure is not None:
                    self.failure = None
                    self._failed(BACK)

    async def close(self) -> None:
        """End the stream, and with it what it has in the database."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait([self._retrying])
        if self._reading is not None:  # which the retry may have begun
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _retry(self) -> None:
        """Try to open the stream until it is open, with growing pauses."""
        pause = RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                await self.start()
                return
            except StreamFailed:
                pause = min(2 * pause, MAX_RETRY_SECONDS)

    async def _open(self) -> ChangeSource:
        try:
            return await ReplicationStream.open(self._url, self._publications, self._slot_prefix)
        except StreamFailed as error:
            if await offers_replication(self._url):
                raise
            reason = str(error)
        try:
            stream = await OutboxStream.open(self._url, self._publications)
        except StreamFailed as error:
            raise StreamFailed(f"{reason}; and by triggers: {error}") from None
        if reason != self._absence:
            self._absence = reason
            logger.warning(
                "There is no logical replication (%s): triggers on the tables of %s write their "
                "changes to realtime.outbox",
                reason,
                ", ".join(self._publications),
            )
        return stream

    async def _read(self, stream: ChangeSource) -> None:
        watching = asyncio.create_task(self._watch(stream))
        reason: str | None
        try:
            while True:
                if changes := await stream.read():
                    await self._deliver(changes)
        except StreamUnused:
            reason = None
        except StreamFailed as error:
            logger.warning("The changes of the database cannot be read: %s", error)
            reason = str(error)
        except Exception as error:
            logger.exception("The changes of the database cannot be delivered")
            reason = str(error)
        finally:
            self._is_ending = True
            watching.cancel()
            await uninterrupted(stream.close())
        if reason is not None:
            self._failed(reason)

    async def _watch(self, stream: ChangeSource) -> None:
        """Check the stream again and again, until it has to end."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            is_new = monotonic() - self._started_at < UNUSED_SECONDS
            if stream.delays_writers and not is_new and not self._is_needed():
                stream.fail(StreamUnused())
                return
            try:
                connecting = connect(self._url, autocommit=True, connect_timeout=CONNECT_SECONDS)
                async with await connecting as connection:
                    await stream.check(connection)
            except StreamFailed as error:
                stream.fail(error)
                return
            except psycopg.Error as error:  # a server that has ended has ended the stream too
                logger.warning("The stream of changes cannot be checked: %s", error)
