#!/usr/bin/env bash
# What httpx does when a server has closed an idle connection in good order: over HTTP/1.1 it opens
# another one, over HTTP/2 the next request fails.
#
# Seen with httpx 0.28.1, httpcore 1.0.9, h2 4.4.1: a server closes each connection after two
# requests, 50 ms after the second response, over HTTP/2 with GOAWAY (NO_ERROR, last stream 3) before
# it; the client sends five POSTs, 150 ms apart:
#     HTTP/1.1   204 204 204 204 204
#     HTTP/2     204 204 ReadError 204 204   (WriteError with the synchronous client)
# One would guess that HTTP/2, which announces the end of a connection by a frame of its own, is the
# safer of the two (RFC 9113, 6.8: requests above the last stream were not processed and can be sent
# again). httpcore looks whether an idle connection of HTTP/1.1 has become readable before it uses it
# again (has_expired in httpcore/_async/http11.py); of HTTP/2 it looks at the clock only (http2.py),
# and finds the GOAWAY when the request is already written. The message of the error is empty.
# Servers and proxies close so after a number of requests or an idle time, and supabase-py's clients
# speak HTTP/2: a client that reads now and then meets it within the five seconds for which httpx
# keeps a connection. Repeat requests that may be repeated, or pass a client with http2=False.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    httpx==0.28.1 httpcore==1.0.9 h2==4.4.1

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

import httpx
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

REQUESTS_A_CONNECTION = 2


async def serve_http2(reader, writer):
    connection = H2Connection(H2Configuration(client_side=False))
    connection.initiate_connection()
    served = 0
    while served < REQUESTS_A_CONNECTION:
        writer.write(connection.data_to_send())
        if not (received := await reader.read(65536)):
            break
        for event in connection.receive_data(received):
            if isinstance(event, StreamEnded):
                connection.send_headers(event.stream_id, [(":status", "204")], end_stream=True)
                served += 1
    writer.write(connection.data_to_send())
    await asyncio.sleep(0.05)
    connection.close_connection()
    writer.write(connection.data_to_send())
    await writer.drain()
    writer.close()


async def serve_http1(reader, writer):
    for _ in range(REQUESTS_A_CONNECTION):
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            break
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()


async def outcomes(serve, **protocols):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen = []
    async with httpx.AsyncClient(**protocols) as client:
        for _ in range(5):
            try:
                response = await client.post(f"http://127.0.0.1:{port}/notes")
                seen.append(response.status_code)
            except httpx.TransportError as error:
                seen.append(type(error).__name__)
            await asyncio.sleep(0.15)
    server.close()
    return seen


async def main():
    over_http1 = await outcomes(serve_http1, http1=True, http2=False)
    over_http2 = await outcomes(serve_http2, http1=False, http2=True)
    return over_http1, over_http2


print(*(f"{name} {version(name)}" for name in ("httpx", "httpcore", "h2")))
over_http1, over_http2 = asyncio.run(main())
print("HTTP/1.1", *over_http1)
print("HTTP/2  ", *over_http2)
assert over_http1 == [204] * 5
failed = over_http2[REQUESTS_A_CONNECTION]
assert failed in ("WriteError", "ReadError", "RemoteProtocolError"), "another connection is opened"
assert over_http2[:2] + over_http2[3:] == [204] * 4
PYTHON
echo "as described"
