"""The server of applications: uvicorn, with time limits for headers and less garbage collection."""

import asyncio
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from amphibase.allocator import trim
from amphibase.redaction import redact_logs
from amphibase.shutdown import announce_shutdown

GRACEFUL_SECONDS = 30
HEAD_SECONDS = 20
"""How long a client may take until its request's headers are there."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection stays open between two requests. Clients and proxies (60 seconds, where
they say nothing else) give one up before that: a request that is sent while the server closes the
connection is lost."""

MAX_HEAD_BYTES = 128 * 1024
MAX_COALESCED_BYTES = 16 * 1024
ACK_SECONDS = 30
"""How long the client of a WebSocket or an event stream may take nothing of what is sent, before
its socket is freed."""
EVENT_STREAM = b"text/event-stream"


class UvicornServer(uvicorn.Server):
    """A server that may end by itself or with another, and that reports when it listens.

    Args:
        ready: called once it listens.
        freezes: whether it calls `freeze` then.
        handles_signals: False for one of several in a process: `should_exit` ends it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], object] | None,
        *,
        freezes: bool = True,
        handles_signals: bool = True,
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._freezes = freezes
        self._handles_signals = handles_signals

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at a signal for the block, if signals are this server's."""
        with super().capture_signals() if self._handles_signals else nullcontext():
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._freezes:
            freeze()
        if self._ready is not None and not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        announce_shutdown()
        await super().shutdown(sockets)


def freeze() -> None:
    """Exempt the objects that exist by now from garbage collection, since they stay; give back the
    memory that their making left."""
    gc.collect()
    gc.freeze()
    gc.enable()
    trim()


def server(
    app: Any,
    *,
    ready: Callable[[], object] | None = None,
    freezes: bool = True,
    graceful_seconds: int = GRACEFUL_SECONDS,
    handles_signals: bool = True,
    http: type[asyncio.Protocol] | None = None,
    **options: Any,
) -> UvicornServer:
    """Build a server for the application.

    Args:
        ready: called once it listens.
        freezes: as `UvicornServer` takes it; a program that goes on to start calls `freeze` itself.
        graceful_seconds: how long requests under way may take once it is to end.
        handles_signals: as `UvicornServer` takes it.
        http: a subclass of `HeaderTimeoutProtocol` in its place.
        options: more of `uvicorn.Config`.
    """
    redact_logs()
    config = uvicorn.Config(
        app,
        http=http or HeaderTimeoutProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=graceful_seconds,
        **options,
    )
    return UvicornServer(config, ready, freezes=freezes, handles_signals=handles_signals)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the fastest event loop that is installed."""
    try:
        import uvloop
    except ImportError:  # it does not exist for every platform
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def local_url(host: str, port: int) -> str:
    """Return the URL at which a browser on this machine reaches a server that listens there."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class _CoalescingTransport:
    """A transport that sends what is written in one turn of the loop together.

    uvicorn writes the head of a response and its body apart, and each would be a packet.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing  # asked often, and `__getattr__` is slow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it at the end of this turn of the loop, or at once where it is large."""
        if len(data) > MAX_COALESCED_BYTES:
            self._flush()
            if not self._transport.is_closing():
                self._transport.write(data)
            return
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def unwrap(self) -> asyncio.Transport:
        """Send what is written; return the transport itself."""
        self._flush()
        return self._transport

    def close(self) -> None:
        """Send what is written, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            if not self._transport.is_closing():  # the client may have reset the connection
                self._transport.write(data)


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """Closes connections whose request does not begin, or whose headers do not end."""

    _deadline: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._coalescing = _CoalescingTransport(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, self._coalescing))
        self._in_head = True
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:  # most heads come whole, and no timer is set for them
            self._await_head()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._deadline is not None:
            self._stop_waiting()
        for name, value in self.headers:
            if name == b"accept" and EVENT_STREAM in value:
                self._limit_silence()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        self._limit_silence()
        self.transport = self._coalescing.unwrap()  # each frame is one write already
        super().handle_websocket_upgrade()

    def _limit_silence(self) -> None:
        """Free the socket of a client that takes nothing for too long."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it
            milliseconds = ACK_SECONDS * 1000
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_head = False
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._deadline is None:
            self._head_bytes = 0
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
