"""Responses to clients that are still sending."""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 5
DRAIN_SILENCE_SECONDS = 0.5


class DrainingResponse(Response):
    """Respond to a client that is still sending, and close the connection: a server would read on
    otherwise, to throw away what comes.

    It does not close at once: many clients would report a broken connection instead of the
    response.

    Args:
        response: what is sent.
    """

    def __init__(self, response: Response) -> None:
        headers = {**response.headers, "Connection": "close"}
        super().__init__(response.body, response.status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await _drain(receive)
        await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    left = DRAIN_BYTES
    while left > 0:
        message = await asyncio.wait_for(receive(), DRAIN_SILENCE_SECONDS)
        if not message.get("more_body"):
            return
        left -= len(message.get("body", b""))
