"""The body of a request, from a client that may fall silent in the middle of it."""

import asyncio
from collections.abc import Mapping

from starlette.types import Message, Receive

from amphibase.errors import RequestTimeout

BODY_SECONDS = 60
"""How long a client may send nothing in the middle of a body, where no setting says otherwise."""


def has_body(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a request announces a body (RFC 9112, section 6)."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


class RequestBody:
    """Passes on the messages of a request as long as they keep coming.

    Args:
        seconds: how long the client may send nothing before the body is complete.

    Attributes:
        is_coming: whether more of the body is expected.
        timed_out: whether the client fell silent.
    """

    __slots__ = ("_receive", "_seconds", "is_coming", "timed_out")

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self.is_coming = True
        self.timed_out = False

    async def receive(self) -> Message:
        """Receive the next message. Raises RequestTimeout."""
        if not self.is_coming:  # the next one is the disconnect, however late
            return await self._receive()
        try:
            async with asyncio.timeout(self._seconds):
                message = await self._receive()
        except TimeoutError:
            self.is_coming = False
            self.timed_out = True
            raise RequestTimeout from None
        self.is_coming = bool(message.get("more_body"))
        return message
