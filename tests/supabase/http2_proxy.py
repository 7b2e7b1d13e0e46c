"""An HTTP/2 front of a project, as a hosted one has; the local one alone speaks HTTP/1.1."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import httpx

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-encoding"}

PATIENCE_SECONDS = 250
"""How long a request may wait for those before it; pytest waits a little longer for its test."""


@dataclass
class Exchange:
    """A request on a stream."""

    headers: list[tuple[str, str]]
    body: bytearray = field(default_factory=bytearray)


class Http2Proxy:
    """Forwards what comes over HTTP/2 with prior knowledge (RFC 9113, section 3.3).

    Attributes:
        url: where it listens.
        connections: how many were opened so far.
        delay: seconds before a response is sent; `leave` drops the connections with GOAWAY.
        delayed: set when a response waits.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.connections = 0
        self.delay = 0.0
        self.delayed = asyncio.Event()
        self._open: set[Http2Connection] = set()
        self._http = httpx.AsyncClient(base_url=target, timeout=PATIENCE_SECONDS)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = Http2Connection(self, writer)
        self._open.add(connection)
        try:
            await connection.serve(reader)
        except (ConnectionError, h2.exceptions.ProtocolError):
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    async def forward(self, exchange: Exchange) -> httpx.Response:
        pseudo = {name: value for name, value in exchange.headers if name.startswith(":")}
        headers = [pair for pair in exchange.headers if not pair[0].startswith(":")]
        response = await self._http.request(
            pseudo[":method"], pseudo[":path"], headers=headers, content=bytes(exchange.body)
        )
        self.delayed.set()
        await asyncio.sleep(self.delay)
        return response

    def leave(self) -> None:
        """Close every connection by GOAWAY, whatever is under way on it."""
        for connection in list(self._open):
            connection.go_away()

    async def close(self) -> None:
        await self._http.aclose()


class Http2Connection:
    """One connection of a client."""

    def __init__(self, proxy: Http2Proxy, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._writer = writer
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._exchanges: dict[int, Exchange] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader) -> None:
        self._h2.initiate_connection()
        self._flush()
        while data := await reader.read(65536):
            for event in self._h2.receive_data(data):
                self._on(event)
            self._flush()

    def go_away(self) -> None:
        self._h2.close_connection()
        self._flush()
        self._writer.close()

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._writer.close()

    def _on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                headers = [(str(name), str(value)) for name, value in event.headers or ()]
                self._exchanges[event.stream_id or 0] = Exchange(headers)
            case h2.events.DataReceived():
                stream_id = event.stream_id or 0
                self._exchanges[stream_id].body += event.data or b""
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream_id)
            case h2.events.StreamEnded():
                stream_id = event.stream_id or 0
                exchange = self._exchanges.pop(stream_id)
                self._tasks[stream_id] = asyncio.create_task(self._respond(stream_id, exchange))
            case h2.events.StreamReset():
                task = self._tasks.pop(event.stream_id or 0, None)
                if task is not None:
                    task.cancel()

    async def _respond(self, stream_id: int, exchange: Exchange) -> None:
        response = await self._proxy.forward(exchange)
        headers = [(":status", str(response.status_code))]
        headers += [pair for pair in response.headers.items() if pair[0] not in HOP_BY_HOP]
        try:
            self._h2.send_headers(stream_id, headers)
            self._h2.send_data(stream_id, response.content, end_stream=True)
        except h2.exceptions.ProtocolError:
            return  # the client has gone
        finally:
            self._tasks.pop(stream_id, None)
        self._flush()

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())


@asynccontextmanager
async def http2_proxy(target: str) -> AsyncIterator[Http2Proxy]:
    """Serve a proxy before a URL, for the block."""
    proxy = Http2Proxy(target)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy
        await proxy.close()
