"""A proxy before a project that misbehaves as networks and overloaded servers do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Fault = Callable[[bytes, asyncio.StreamWriter], None]

SERVER_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\n<html"


def too_many_requests(seconds: int) -> bytes:
    """Return the response of a rate limit."""
    return b"HTTP/1.1 429 Too Many\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n" % seconds


@dataclass
class FaultProxy:
    """Forwards requests, each on a connection of its own, and spoils the next ones.

    Attributes:
        url: where it listens.
        faults: what happens to the next requests: `drop` loses the request, `lose` the response,
            `cut` half of the body; bytes are sent instead; a number delays by
            so many seconds, an event until it is set.
        forwarded: how many requests the project got.
    """

    target: str
    url: str = ""
    faults: list[str | bytes | float | asyncio.Event] = field(default_factory=list)
    requests: int = 0
    forwarded: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            self.requests += 1
            fault = self.faults.pop(0) if self.faults else None
            if isinstance(fault, bytes):
                writer.write(fault)
            elif fault != "drop":
                if isinstance(fault, float):
                    await asyncio.sleep(fault)
                elif isinstance(fault, asyncio.Event):
                    await fault.wait()
                response = await self._forward(request)
                head, _, body = response.partition(b"\r\n\r\n")
                if fault == "cut":
                    response = head + b"\r\n\r\n" + body[: len(body) // 2]
                if fault != "lose":
                    writer.write(response)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _forward(self, request: bytes) -> bytes:
        target = urlsplit(self.target)
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection")]
        self.forwarded += 1
        writer.write(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
        response = await reader.read(-1)
        writer.close()
        return response


@asynccontextmanager
async def fault_proxy(target: str) -> AsyncIterator[FaultProxy]:
    """Serve a proxy before a URL, for the block."""
    proxy = FaultProxy(target)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head
