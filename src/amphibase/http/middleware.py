"""The middleware of every request: its id, the access log, security headers, unexpected errors."""

import logging
import os
import re
import time
from functools import cache
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amphibase.errors import RequestTimeout
from amphibase.http.problems import problem
from amphibase.http.start import reporting_in_a_line
from amphibase.redaction import redacted_logger
from amphibase.request_body import RequestBody, has_body

access_log = redacted_logger("amphibase.access")
logger = redacted_logger("amphibase")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

SAFE_IN_PATHS = "/:@!$&'()*+,;="
"""What a path may hold as it is (RFC 3986, section 3.3)."""

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
HSTS = (b"strict-transport-security", b"max-age=31536000")


class RequestMiddleware:
    """Gives each request an id (`X-Request-ID`), logs it, and responds to uncaught errors with 500,
    and with 408 to clients that fall silent.

    The log holds the path and never the query string, headers or bodies, which carry secrets.

    Args:
        body_seconds: how long a client may send nothing in the middle of a body.
    """

    def __init__(self, app: ASGIApp, body_seconds: float) -> None:
        self.app = app
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                send = reporting_in_a_line(send, scope["app"].state.amphibase)
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        sent = headers.get(b"x-request-id", b"")
        request_id = sent.decode() if _REQUEST_ID.fullmatch(sent) else os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = request_id
        added = [*SECURITY_HEADERS, (b"x-request-id", request_id.encode())]
        if scope["scheme"] == "https":
            added.append(HSTS)
        status = 0
        outside: Exception | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status, outside
            if message["type"] == "http.response.start":
                status = message["status"]
                present = dict(message["headers"])
                more = [header for header in added if header[0] not in present]
                message["headers"] = [*message["headers"], *more]
            try:
                await send(message)
            except Exception as error:
                outside = error
                raise

        try:
            if has_body(headers):
                await self._with_body(scope, receive, send_with_headers, request_id)
            else:
                await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or 499
        except Exception as error:
            # FastAPI's limit of bodies (`max_body_size`) is around this, and ends the request so.
            if error is outside:
                raise
            logger.exception("Unexpected error", extra={"request_id": request_id})
            if status:  # The response has begun, so the connection can only be closed.
                raise
            response = problem(
                500, "internal_error", "Something went wrong on our side", request_id=request_id
            )
            await response(scope, receive, send_with_headers)
        finally:
            if access_log.isEnabledFor(logging.INFO):
                seconds = time.perf_counter() - began
                access_log.handle(AccessRecord(scope, request_id, status, seconds))

    async def _with_body(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Call the application, and respond in its place where the body does not end."""
        body = RequestBody(receive, self._body_seconds)
        began = False

        async def send_in_time(message: Message) -> None:
            nonlocal began
            # The framework responds with 400 to whatever is raised while it reads JSON.
            if began or not body.timed_out:
                began = True
                await send(message)

        try:
            await self.app(scope, body.receive, send_in_time)
        except RequestTimeout:
            if began:
                raise
        if body.timed_out and not began:
            headers = {"Connection": "close"}
            late = RequestTimeout()
            response = problem(
                late.status, late.code, late.detail, request_id=request_id, headers=headers
            )
            await response(scope, receive, send)


class AccessRecord(logging.LogRecord):
    """A line of the access log.

    `access_log.info()` would write the same, but search the stack for its caller, and look up the
    thread, the process and the file's name, for each line: a tenth of what a small response costs.

    Args:
        status: of the response; 0 where there was none.
        seconds: how long the response took.
    """

    def __init__(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        client = scope.get("client")
        # Quoted again: a line break in it would forge a line of the log.
        path = quote(scope["path"], safe=SAFE_IN_PATHS, errors="replace")
        now = time.time()
        vars(self).update(
            _shared_attributes(),
            args=(scope["method"], path, status),
            created=now,
            msecs=now % 1 * 1000,
            request_id=request_id,
            method=scope["method"],
            path=path,
            status=status,
            ms=round(seconds * 1000, 2),
            client=client[0] if client else None,
        )


@cache
def _shared_attributes() -> dict[str, Any]:
    """Return what all records of a process share; called after any fork, for the first one."""
    line = logging.LogRecord(
        access_log.name, logging.INFO, __file__, 0, "%s %s %d", None, None, "access"
    )
    return {**vars(line), "taskName": None}
