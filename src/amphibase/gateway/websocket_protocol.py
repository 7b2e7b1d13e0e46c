"""The WebSockets of the gateway: an application may write frames that it has encoded itself.

A broadcast is the same bytes for every client, and uvicorn encodes it for each: half of the time
that a delivery takes.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from amphibase.gateway.service import ENCODED_FRAMES


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, with the extension."""

    _write: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop sends what is written in one turn together by itself.
        self._write = getattr(transport, "write_through", self.transport.write)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:  # the handshake was valid
            extensions = cast(dict[str, Any], scope["extensions"])
            extensions[ENCODED_FRAMES] = {"write": self._write_encoded}

    def _write_encoded(self, frame: bytes) -> bool:
        """Write a frame, unless the connection takes nothing more or nothing now."""
        if (
            not self.writable.is_set()
            or self.disconnected
            or self.close_sent
            or self.transport.is_closing()
        ):
            return False
        self._write(frame)
        return True
