"""Handshakes of WebSockets, without a client that hides the response."""

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Scope


async def shake_hands(host: str, port: int, target: str, *headers: str) -> str:
    """Send the handshake of a WebSocket; return the whole of the response's head."""
    reader, writer = await asyncio.open_connection(host, port)
    lines = [
        f"GET {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers, "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head.decode()


async def connect(
    app: ASGIApp, target: str, headers: Mapping[str, str] | None = None, *, responds: bool = True
) -> list[Message]:
    """Call an application with a handshake; return what it sends.

    Args:
        responds: whether the server can send a response to a handshake.
    """
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    path, _, query = target.partition("?")
    scope: Scope = {
        "type": "websocket",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "extensions": {"websocket.http.response": {}} if responds else {},
    }
    await app(scope, receive, send)
    return sent
