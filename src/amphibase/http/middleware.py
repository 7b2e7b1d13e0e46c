"""What surrounds every request: its id, the access log, security headers, the last resort."""

import logging
import os
import re
import time
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amphibase.http.problems import problem

access_log = logging.getLogger("amphibase.access")
logger = logging.getLogger("amphibase")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

SAFE_IN_PATHS = "/:@!$&'()*+,;="
"""What a path may hold as it is (RFC 3986, section 3.3)."""

SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
HSTS = (b"strict-transport-security", b"max-age=31536000")


class Surroundings:
    """Gives each request an id (`X-Request-ID`), logs it, and answers what nobody caught.

    The log holds the path and never the query string, headers or bodies, which carry secrets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex()
        scope.setdefault("state", {})["request_id"] = request_id
        added = [*SECURITY_HEADERS, (b"x-request-id", request_id.encode())]
        if scope["scheme"] == "https":
            added.append(HSTS)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in added if header[0] not in present),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or 499
        except Exception:
            logger.exception("Unexpected error", extra={"request_id": request_id})
            if status:  # The answer has begun; cutting the connection is all that is left.
                raise
            answer = problem(
                500, "internal_error", "Something went wrong on our side", request_id=request_id
            )
            await answer(scope, receive, send_with_headers)
        finally:
            if access_log.isEnabledFor(logging.INFO):
                ms = round((time.perf_counter() - began) * 1000, 2)
                access_log.handle(_line(scope, status, ms))


def _line(scope: Scope, status: int, ms: float) -> logging.LogRecord:
    """What the access log says of a request.

    It is made here, as `info()` would first search the stack for its caller, which is always this.
    """
    client = scope.get("client")
    # Quoted again: a line break in it would forge a line of the log.
    path = quote(scope["path"], safe=SAFE_IN_PATHS, errors="replace")
    return access_log.makeRecord(
        access_log.name,
        logging.INFO,
        __file__,
        0,
        "%s %s %d",
        (scope["method"], path, status),
        None,
        extra={
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "path": path,
            "status": status,
            "ms": ms,
            "client": client[0] if client else None,
        },
    )
