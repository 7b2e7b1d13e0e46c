"""A WebSocket client that costs little beside the server that it measures."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from collections.abc import Callable
from typing import Any

BIG = 65_536


class Client(asyncio.Protocol):
    """One connection; the mask of its frames is zero, which the protocol allows.

    Args:
        received: called with the text of each frame.
    """

    def __init__(self, path: str, received: Callable[[bytes], None]) -> None:
        self._path = path
        self._received = received
        self._buffer = bytearray()
        self._is_open = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            "".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            if b" 101 " not in head.splitlines()[0]:
                self.opened.set_exception(ConnectionError(head.decode(errors="replace")))
                return
            self._is_open = True
            self.opened.set_result(None)
        self._read_frames()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("closed"))

    def send(self, text: str) -> None:
        """Send a text."""
        payload = text.encode()
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x81, 0x80 | size)
        elif size < BIG:
            head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
        self.transport.write(head + b"\0\0\0\0" + payload)

    def push(self, topic: str, event: str, payload: Any, ref: str = "1") -> None:
        """Send a message of protocol 2.0.0."""
        self.send(json.dumps(["1", ref, topic, event, payload]))

    def _read_frames(self) -> None:
        buffer, place = self._buffer, 0
        while len(buffer) - place >= 2:
            kind, size, start = buffer[place] & 0x0F, buffer[place + 1], place + 2
            for mark, length in ((126, 2), (127, 8)):
                if buffer[place + 1] == mark:
                    size = int.from_bytes(buffer[start : start + length])
                    start += length
            if len(buffer) < start + size:
                break
            payload = bytes(buffer[start : start + size])
            place = start + size
            if kind == 9:  # ping
                self.transport.write(struct.pack("!BB", 0x8A, 0x80 | size) + b"\0\0\0\0" + payload)
            elif kind in (1, 2):
                self._received(payload)
        del buffer[:place]


async def open_client(port: int, path: str, received: Callable[[bytes], None]) -> Client:
    """Open a connection, and wait for the end of the handshake."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(path, received), "127.0.0.1", port)
    await client.opened
    return client
