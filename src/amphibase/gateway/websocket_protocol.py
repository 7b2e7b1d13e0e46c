"""The WebSockets of the gateway: an application may write frames that it has encoded itself.

A broadcast is the same bytes for every client, and uvicorn encodes it for each: half of the time
that a delivery takes.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from amphibase.gateway.service import ENCODED_FRAMES


class _FrameWriter:
    """Writes whole frames to one connection.

    A broadcast to a thousand connections finds none of their objects in the processor's cache, and
    waits longer for these than it computes. So it touches only this one and the transport.

    Attributes:
        is_writable: whether the transport has room.
    """

    __slots__ = ("_transport", "is_writable")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_writable = True

    def write(self, frame: bytes) -> bool:
        """Write a frame, unless the connection takes nothing more or nothing now."""
        if not self.is_writable or self._transport.is_closing():
            return False
        self._transport.write(frame)
        return True


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with the extension."""

    _writer: _FrameWriter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._writer = _FrameWriter(self.transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writer.is_writable = False

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writer.is_writable = True

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:  # the handshake was valid
            extensions = cast(dict[str, Any], scope["extensions"])
            extensions[ENCODED_FRAMES] = {"write": self._writer.write}
