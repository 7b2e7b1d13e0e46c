"""The floor of a broadcast: a bare ASGI application that sends each message to all connections."""

from __future__ import annotations

from typing import Any

connections: set[Any] = set()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Join, and send what comes to each other connection, one after the other."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while (message := await receive())["type"] == "websocket.receive":
            if "phx_join" in message["text"]:
                connections.add(send)
                await send({"type": "websocket.send", "text": '["phx_reply"]'})
                continue
            for each in list(connections):
                if each is not send:
                    await each({"type": "websocket.send", "text": message["text"]})
    finally:
        connections.discard(send)
