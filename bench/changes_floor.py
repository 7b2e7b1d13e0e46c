"""The floor of streams of changes: a bare ASGI application that sends what is posted to it to every
stream, and stores nothing."""

from __future__ import annotations

import asyncio
from typing import Any

EVENT = (
    b"id: " + b"x" * 40 + b'\nevent: added\ndata: {"id":"' + b"0" * 36 + b'","owner_id":"'
    b"" + b"0" * 36 + b'","sent":%s}\n\n'
)  # fmt: skip
streams: set[Any] = set()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve a stream, or send what comes to each of them, one after the other."""
    if scope["type"] != "http":
        return
    if scope["path"].endswith("/changes"):
        await _serve(receive, send)
        return
    body = (await receive())["body"]
    if scope["method"] == "POST":
        event = EVENT % body.partition(b":")[2].rstrip(b"}").strip()
        message = {"type": "http.response.body", "body": event, "more_body": True}
        await asyncio.gather(*(each(message) for each in streams))
    await send({"type": "http.response.start", "status": 201 if body else 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def _serve(receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"retry: 2000\n\n", "more_body": True})
    streams.add(send)
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        streams.discard(send)
