"""The stream of one database: open from its first reader on, and again after a failure."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import psycopg

from amphibase.database.connecting import connect
from amphibase.redaction import redacted_logger
from amphibase.replication.pgoutput import Decoder, RowChange
from amphibase.replication.stream import (
    CONNECT_SECONDS,
    PUBLICATIONS,
    ReplicationStream,
    StreamFailed,
    missing,
)

logger = redacted_logger("amphibase.replication")

RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 60.0
WATCH_SECONDS = 5.0
BACK = "it has been restored"


class Feed:
    """Passes on every change that is committed after `start`, in the order of the commits.

    Args:
        url: of the database, as a role with REPLICATION.
        publications: whose tables it has.
        slot_prefix: what the name of its temporary slot begins with.
        deliver: gets the changes of one round; the next are read after it has returned. Changes
            that come meanwhile are one round, so that rounds grow under load.
        failed: called when changes may have been missed.

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
    ) -> None:
        self._url = url
        self._publications = publications
        self._slot_prefix = slot_prefix
        self._deliver = deliver
        self._failed = failed
        self._starting = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._retrying: asyncio.Task[None] | None = None
        self.failure: str | None = None

    async def start(self) -> None:
        """Open the stream, unless it is open. After a failure it is tried again and again.

        Raises:
            StreamFailed: the server does not offer it; says why.
        """
        async with self._starting:
            if self._reading is None or self._reading.done():
                try:
                    stream = await ReplicationStream.open(
                        self._url, self._publications, self._slot_prefix
                    )
                except StreamFailed as error:
                    self.failure = str(error)
                    if self._retrying is None or self._retrying.done():
                        self._retrying = asyncio.create_task(self._retry())
                    raise
                self._reading = asyncio.create_task(self._read(stream))
                if self.failure is not None:
                    self.failure = None
                    self._failed(BACK)

    async def close(self) -> None:
        """End the stream, and with it its slot."""
        for task in (self._retrying, self._reading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

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

    async def _read(self, stream: ReplicationStream) -> None:
        decoder = Decoder()
        watching = asyncio.create_task(self._watch(stream))
        try:
            while True:
                decoded = map(decoder.decode, await stream.read())
                if changes := [change for change in decoded if change is not None]:
                    await self._deliver(changes)
        except Exception as error:
            if isinstance(error, StreamFailed):
                logger.warning("The changes of the database cannot be read: %s", error)
            else:
                logger.exception("The changes of the database cannot be delivered")
            self._failed(str(error))
        finally:
            watching.cancel()
            stream.close()

    async def _watch(self, stream: ReplicationStream) -> None:
        """End a stream whose publication is dropped: servers since 18 send it nothing more."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                connecting = connect(self._url, connect_timeout=CONNECT_SECONDS)
                async with await connecting as connection:
                    cursor = await connection.execute(PUBLICATIONS)
                    names = {name for (name,) in await cursor.fetchall()}
            except psycopg.Error as error:  # a server that has ended has ended the stream too
                logger.warning("The publications cannot be looked up: %s", error)
                continue
            for publication in self._publications:
                if publication not in names:
                    stream.fail(missing(publication))
                    return
