"""The one stream of a project: opened when the first channel needs it, read until it fails."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from amphibase.gateway.realtime.replication.pgoutput import Decoder, RowChange
from amphibase.gateway.realtime.replication.stream import ReplicationStream, StreamFailed
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.realtime")


class Feed:
    """Passes on every change that is committed after `start`, in the order of the commits.

    Args:
        url: of the database, as a role with REPLICATION.
        publications: whose tables it has.
        deliver: gets the changes of one round; the next are read after it has returned. Changes
            that come meanwhile are one round, so that rounds grow under load.
        failed: called when changes may have been missed.
    """

    def __init__(
        self,
        url: str,
        publications: Sequence[str],
        deliver: Callable[[Sequence[RowChange]], Awaitable[None]],
        failed: Callable[[str], None],
    ) -> None:
        self._url = url
        self._publications = publications
        self._deliver = deliver
        self._failed = failed
        self._starting = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the stream, unless it is open.

        Raises:
            StreamFailed: the server does not offer it; says why.
        """
        async with self._starting:
            if self._reading is None or self._reading.done():
                stream = await ReplicationStream.open(self._url, self._publications)
                self._reading = asyncio.create_task(self._read(stream))

    async def close(self) -> None:
        """End the stream, and with it its slot."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self, stream: ReplicationStream) -> None:
        decoder = Decoder()
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
            stream.close()
