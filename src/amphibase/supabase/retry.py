"""An httpx client that repeats what may be repeated: the only place of this package that does.

It is the session of the official clients too, whose own repetitions are switched off, so that the
two do not multiply.
"""

import asyncio
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 2.0

MAX_RETRY_AFTER_SECONDS = 5
"""A longer wait is passed on to the client, since no one waits that long for a response."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, section 9.2.1). PUT and DELETE are idempotent too, but the
response to a second DELETE is that there is nothing to delete."""

TEMPORARY_STATUSES = frozenset({502, 503, 504, 520})
"""520 is Cloudflare's, which hosted projects are behind."""

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
"""The request never reached the server, so that any method may be sent again."""

LOST = (httpx.NetworkError, httpx.ProtocolError, httpx.DecodingError)
"""The connection ended before the whole response was there, such as by GOAWAY in HTTP/2."""


class RetryingClient(httpx.AsyncClient):
    """Sends a request again, after a random time, where that cannot do anything twice.

    Repeated are requests of safe methods, and others with the extension `idempotent`, after a lost
    connection, a body that was cut, 429 with `Retry-After`, 502, 503, 504 and 520; and any request
    that could not be sent. A response that took too long is not waited for again: it would make a
    slow server slower. A request whose body is a stream is sent once.
    """

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **options: Any
    ) -> httpx.Response:
        """Send a request, up to ATTEMPTS times; see `httpx.AsyncClient.send`."""
        repeatable = request.method in SAFE_METHODS or bool(request.extensions.get("idempotent"))
        attempts = ATTEMPTS if isinstance(request.stream, httpx.ByteStream) else 1
        for attempt in range(1, attempts):
            wait = random.uniform(0, _longest_wait(attempt))  # noqa: S311 - no secret
            try:
                response = await super().send(request, stream=stream, **options)
            except NOT_SENT:
                await asyncio.sleep(wait)
                continue
            except LOST:
                if not repeatable:
                    raise
                await asyncio.sleep(wait)
                continue
            demanded = _demanded_wait(response)
            if not repeatable or demanded is None:
                return response
            await response.aclose()
            await asyncio.sleep(demanded + wait)
        return await super().send(request, stream=stream, **options)


def retry_after(response: httpx.Response) -> int | None:
    """Return the seconds of `Retry-After`, which may be a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("retry-after", "")
    if value.isdecimal():
        return int(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0, round((date - datetime.now(UTC)).total_seconds()))


def _longest_wait(attempt: int) -> float:
    return min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0**attempt)


def _demanded_wait(response: httpx.Response) -> int | None:
    """Return how long the server wants to be left alone; None where repeating makes no sense."""
    demanded = retry_after(response)
    if response.status_code not in TEMPORARY_STATUSES and not (
        response.status_code == 429 and demanded is not None
    ):
        return None
    demanded = demanded or 0
    return demanded if demanded <= MAX_RETRY_AFTER_SECONDS else None
