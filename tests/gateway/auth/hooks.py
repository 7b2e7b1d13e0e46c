"""What hooks of tests call: a function in Postgres, and a server."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

KEY = b"a key of the tests with 32 bytes"
SECRET = f"v1,whsec_{base64.b64encode(KEY).decode()}"
FUNCTION = "pg-functions://postgres/public/the_hook"


class Receiver:
    """A server that hooks call, and what it got."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[Request, bytes]] = []
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.respond: Callable[[dict[str, Any]], Response] = lambda event: JSONResponse({})

    async def receive(self, request: Request) -> Response:
        content = await request.body()
        self.requests.append((request, content))
        self.queue.put_nowait(json.loads(content))
        return self.respond(json.loads(content))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(content) for _, content in self.requests]


def calling(name: str, receiver: Receiver | None = None) -> dict[str, Any]:
    """The settings of one hook."""
    return {
        f"hook_{name}_enabled": True,
        f"hook_{name}_uri": receiver.url if receiver else FUNCTION,
        f"hook_{name}_secrets": SECRET if receiver else None,
    }
