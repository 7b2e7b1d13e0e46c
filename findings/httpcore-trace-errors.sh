#!/usr/bin/env bash
# httpx's extension `trace` calls a function of one's own at each step of a request. What it raises
# reaches the caller; but where it raises just after the connection has been made, nobody closes
# that connection, not even the client that is closed: it stays open until the garbage collector
# comes by.
#
# Seen with httpx 0.28.1 and httpcore 1.0.9 on asyncio, against a server that waits for the end of
# each connection, for a function that raises at one step:
#     raised at                              the server sees the end
#     connection.connect_tcp.started         (no connection)
#     connection.connect_tcp.complete        after gc.collect(), and not in the 2 seconds before
#     http11.send_request_headers.started    at once
# One would guess that an error in the middle of a request closes what the request opened, as it
# does one step later: the pool takes the connection over only after this call. A function that
# means to stop a request here closes it itself: `await info["return_value"].aclose()`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check httpx==0.28.1 httpcore==1.0.9

"$folder/venv/bin/python" <<'PYTHON'
import asyncio
import gc

import httpcore
import httpx

STEPS = (
    "connection.connect_tcp.started",
    "connection.connect_tcp.complete",
    "http11.send_request_headers.started",
)


class Stopped(Exception):
    """Raised by the function that is called at each step."""


async def outcome(step, *, closes=False):
    """Return when the server saw the end of the connection whose request was stopped."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        begun.set()
        await reader.read()
        ended.set()
        writer.close()

    async def trace(event, info):
        if event == step:
            if closes:
                await info["return_value"].aclose()
            raise Stopped

    async def seen(event):
        try:
            await asyncio.wait_for(event.wait(), 2)
        except TimeoutError:
            return False
        return True

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient() as client:
        try:
            await client.get(f"http://127.0.0.1:{port}/", extensions={"trace": trace})
        except Stopped:
            pass
        if not await seen(begun):
            return "no connection"
    if await seen(ended):
        return "closed"
    del client
    gc.collect()
    return "closed by the collector" if await seen(ended) else "open"


async def main():
    print("httpx", httpx.__version__, "httpcore", httpcore.__version__)
    outcomes = {step: await outcome(step) for step in STEPS}
    outcomes["closed by the function"] = await outcome(STEPS[1], closes=True)
    for step, state in outcomes.items():
        print(f"{step:40}{state}")
    collected = "closed by the collector"
    assert [*outcomes.values()] == ["no connection", collected, "closed", "closed"]


asyncio.run(main())
PYTHON
