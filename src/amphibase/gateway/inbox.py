"""The inbox of development: emails that were not sent, held in memory and shown in a browser."""

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

MAX_EMAILS = 500
_LINK = re.compile(r"https?://[^\s<>\"']+")

_HEADERS = {
    # No script of an email runs and nothing is loaded.
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
{emails}
</html>
"""


class Inbox:
    """Holds the latest emails and shows them, as an ASGI application: a page, and JSON at
    `/api/messages`; satisfies `Service`.

    Args:
        key: clients have to send it, as a bearer token or as the password of Basic authentication,
            because emails hold links that sign in; None where only this machine has access.
    """

    def __init__(self, key: str | None = None) -> None:
        self._key = key
        self._emails: deque[dict[str, Any]] = deque(maxlen=MAX_EMAILS)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def put(self, message: EmailMessage) -> None:
        """Add an email; beyond the limit, the oldest is dropped."""
        self._emails.appendleft(
            {
                "id": str(uuid4()),
                "from": str(message["From"]),
                "to": [str(address) for address in message.get_all("To", [])],
                "subject": str(message["Subject"]),
                "created_at": parsedate_to_datetime(message["Date"]).isoformat(),
                "text": message.get_content(),
            }
        )

    def emails(self) -> list[dict[str, Any]]:
        """Return the emails, newest first."""
        return list(self._emails)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            await self._respond(request)(scope, receive, send)
        else:
            await deny_websocket(scope, receive, send)

    def _respond(self, request: Request) -> Response:
        if not self._admits(request):
            headers = {"www-authenticate": 'Basic realm="The password is the service_role key"'}
            return JSONResponse({"message": "The service_role key is needed"}, 401, headers)
        fetched = request.headers.get("sec-fetch-mode", "navigate") != "navigate"
        if fetched and request.headers.get("sec-fetch-site") == "cross-site":
            # A page of another site in the same browser; CORS would let it read everything.
            return JSONResponse({"message": "Pages of other sites may not read the inbox"}, 403)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        match request.method, path.rstrip("/"):
            case "GET" | "HEAD", "":
                shown = "".join(map(_article, self._emails))
                page = _PAGE.format(emails=shown or "<p>No emails yet.</p>")
                return HTMLResponse(page, headers=_HEADERS)
            case "GET" | "HEAD", "/api/messages":
                return JSONResponse({"messages": self.emails()}, headers=_HEADERS)
            case "DELETE", "/api/messages":
                self._emails.clear()
                return Response(status_code=204)
            case _, "" | "/api/messages":
                return JSONResponse({"message": "Method not allowed"}, 405)
        return JSONResponse({"message": "Not found"}, 404)

    def _admits(self, request: Request) -> bool:
        if self._key is None:
            return True
        scheme, _, password = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                password = base64.b64decode(password).decode("latin-1").partition(":")[2]
            except ValueError:
                return False
        return hmac.compare_digest(password.encode(), self._key.encode())


def _article(email: dict[str, Any]) -> str:
    to = html.escape(", ".join(email["to"]))
    return (
        f"<article><h2>{html.escape(email['subject'])}</h2>"
        f"<p>to {to}, {html.escape(email['created_at'])}</p><pre>{_linked(email['text'])}</pre>"
        "</article>\n"
    )


def _linked(text: str) -> str:
    parts, position = [], 0
    for match in _LINK.finditer(text):
        url = html.escape(match[0])
        parts += [html.escape(text[position : match.start()])]
        parts += [f'<a href="{url}" rel="noopener noreferrer">{url}</a>']
        position = match.end()
    return "".join([*parts, html.escape(text[position:])])
