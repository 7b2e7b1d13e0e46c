"""The interface of the gateway's services: each is an ASGI application of its own."""

from typing import Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

ENCODED_FRAMES = "amphibase.encoded_frames"
"""An extension of the ASGI scope of WebSockets, which `WebSocketProtocol` has. Its `write` takes a
whole frame, and returns whether it was written; an application that has closed the connection calls
it no more. Other servers encode each message themselves."""

WHOLE_RESPONSE = "amphibase.whole_response"
"""An extension of the ASGI scope of HTTP, which `HttpProtocol` has. Its `send` takes the status,
the headers and the body of a response, and returns whether it sent them; where it did not, ASGI's
own messages do."""


class Service(Protocol):
    """One service, mountable alone at any path: it serves what comes after `root_path`.

    It is called with requests and with WebSockets, and denies those that it does not serve.

    It starts by itself at its first request where `start` was not called (an application that
    mounts it does not pass its lifespan on), and `close` may be called at any time after.
    """

    async def start(self) -> None:
        """Open what it needs; does nothing once it is started.

        Raises:
            ConfigurationError: a setting is wrong, or the database lacks something.
            Unavailable: the database cannot be reached.
        """

    async def close(self) -> None:
        """Close everything; requests under way end first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


async def deny_websocket(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int = 404,
    message: str = "Not found",
    *,
    key: str = "message",
) -> None:
    """Respond to a WebSocket's handshake as to a request, instead of accepting it.

    Args:
        status: of the response; where the server cannot send one (it lacks ASGI's extension
            `websocket.http.response`), the handshake is closed, which is a 403.
        message: of the response's JSON body.
        key: where the body has it.
    """
    websocket = WebSocket(scope, receive, send)
    await websocket.receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        body = orjson.dumps({key: message})
        await websocket.send_denial_response(
            Response(body, status, media_type="application/json; charset=utf-8")
        )
    else:
        await websocket.close(reason=message)
