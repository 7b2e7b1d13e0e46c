"""Answers to clients that are still sending."""

import asyncio
import contextlib

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PARTING_BYTES = 64 * 1024 * 1024
PARTING_SECONDS = 5
PARTING_SILENCE_SECONDS = 0.5


class Parting(Response):
    """An answer to a client that is still sending: the connection closes after it, since a server
    reads on otherwise, to throw away what comes.

    It does not close at once: many clients would tell of a broken connection and not of the answer.
    """

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.body, answer.status_code, {**answer.headers, "Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING_SECONDS):
                await _drain(receive)
        await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    left = PARTING_BYTES
    while left > 0:
        message = await asyncio.wait_for(receive(), PARTING_SILENCE_SECONDS)
        if not message.get("more_body"):
            return
        left -= len(message.get("body", b""))
