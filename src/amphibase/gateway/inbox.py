"""The inbox of development: letters that went nowhere, kept in memory and shown in the browser."""

import base64
import hmac
import html
import re
from collections import deque
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from amphibase.gateway.service import deny_websocket

MAX_LETTERS = 500
_LINK = re.compile(r"https?://[^\s<>\"']+")

_HEADERS = {
    # Nothing of a letter runs or loads, whatever it holds.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Inbox</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto }}
article {{ border-top: 1px solid #8888; padding: 1rem 0 }}
h2 {{ font-size: 1rem; margin: 0 }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font: inherit }}
</style>
<h1>Inbox</h1>
{letters}
</html>
"""


class Inbox:
    """Keeps the latest letters and shows them, as an ASGI application: a page, and JSON at
    `/api/messages`; satisfies `Service`.

    Args:
        key: whoever looks has to send it, as a bearer or as the password that a browser asks for,
            since letters hold what signs people in; None on a machine of one's own.
    """

    def __init__(self, key: str | None = None) -> None:
        self._key = key
        self._letters: deque[dict[str, Any]] = deque(maxlen=MAX_LETTERS)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def put(self, message: EmailMessage) -> None:
        """Keep a letter; the oldest goes when there is no room."""
        self._letters.appendleft(
            {
                "id": str(uuid4()),
                "from": str(message["From"]),
                "to": [str(address) for address in message.get_all("To", [])],
                "subject": str(message["Subject"]),
                "created_at": parsedate_to_datetime(message["Date"]).isoformat(),
                "text": message.get_content(),
            }
        )

    def letters(self) -> list[dict[str, Any]]:
        """What is there, newest first."""
        return list(self._letters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            await self._answer(request)(scope, receive, send)
        else:
            await deny_websocket(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if not self._admits(request):
            headers = {"www-authenticate": 'Basic realm="The password is the service_role key"'}
            return JSONResponse({"message": "The service_role key is needed"}, 401, headers)
        fetched = request.headers.get("sec-fetch-mode", "navigate") != "navigate"
        if fetched and request.headers.get("sec-fetch-site") == "cross-site":
            # Some page in the same browser, which the front door would let read everything.
            return JSONResponse({"message": "Other sites may not look in here"}, 403)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        match request.method, path.rstrip("/"):
            case "GET" | "HEAD", "":
                shown = "".join(map(_article, self._letters))
                page = _PAGE.format(letters=shown or "<p>No letters yet.</p>")
                return HTMLResponse(page, headers=_HEADERS)
            case "GET" | "HEAD", "/api/messages":
                return JSONResponse({"messages": self.letters()}, headers=_HEADERS)
            case "DELETE", "/api/messages":
                self._letters.clear()
                return Response(status_code=204)
            case _, "" | "/api/messages":
                return JSONResponse({"message": "Method not allowed"}, 405)
        return JSONResponse({"message": "Not found"}, 404)

    def _admits(self, request: Request) -> bool:
        if self._key is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given).decode("latin-1").partition(":")[2]
            except ValueError:
                return False
        return hmac.compare_digest(given.encode(), self._key.encode())


def _article(letter: dict[str, Any]) -> str:
    to = html.escape(", ".join(letter["to"]))
    return (
        f"<article><h2>{html.escape(letter['subject'])}</h2>"
        f"<p>to {to}, {html.escape(letter['created_at'])}</p><pre>{_linked(letter['text'])}</pre>"
        "</article>\n"
    )


def _linked(text: str) -> str:
    written, position = [], 0
    for found in _LINK.finditer(text):
        url = html.escape(found[0])
        written += [html.escape(text[position : found.start()])]
        written += [f'<a href="{url}" rel="noopener noreferrer">{url}</a>']
        position = found.end()
    return "".join([*written, html.escape(text[position:])])
