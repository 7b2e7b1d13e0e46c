"""The inbox of development: emails that were not sent, held in memory and shown in a browser."""

import base64
import hmac
import html
import json
import re
from collections import deque
from collections.abc import Iterable, Sequence
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from amphibase.gateway import mailpit
from amphibase.gateway.mailpit import StoredEmail
from amphibase.gateway.service import deny_websocket
from amphibase.loopback import is_loopback

MAX_EMAILS = 500
DEFAULT_LIMIT = 50
MAX_BODY_BYTES = 64 * 1024
MAX_DIGITS = 9
NEWEST = "latest"
"""What Mailpit calls the newest email in place of its id."""

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
    """Holds the latest emails and shows them, as an ASGI application: a page, JSON at
    `/api/messages`, and Mailpit's API below `/api/v1`; satisfies `Service`.

    Args:
        key: clients have to send it, as a bearer token or as the password of Basic authentication,
            because emails hold links that sign in; None where only this machine has access, which
            then has to name itself in `Host`.
    """

    def __init__(self, key: str | None = None) -> None:
        self._key = key
        self._emails: deque[StoredEmail] = deque(maxlen=MAX_EMAILS)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def put(self, message: EmailMessage) -> None:
        """Add an email; beyond the limit, the oldest is dropped."""
        created_at = parsedate_to_datetime(message["Date"])
        email = StoredEmail(str(uuid4()), message, created_at, "")
        own = message.get_body(("html",))
        email.html = own.get_content() if own else f"<pre>{_linked(email.text)}</pre>"
        self._emails.appendleft(email)

    def emails(self) -> list[dict[str, Any]]:
        """Return the emails as JSON, newest first."""
        return [
            {
                "id": email.id,
                "from": str(email.message["From"]),
                "to": [str(address) for address in email.message.get_all("To", [])],
                "subject": email.subject,
                "created_at": email.created_at.isoformat(),
                "text": email.text,
            }
            for email in self._emails
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            response = await self._respond(request)
            await response(scope, receive, send)
        else:
            await deny_websocket(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if not self._admits(request):
            headers = {"www-authenticate": 'Basic realm="The password is the service_role key"'}
            return JSONResponse({"message": "The service_role key is needed"}, 401, headers)
        if self._key is None and not _names_this_machine(request):
            # A name that its owner leads to this machine, so that a browser takes the inbox for a
            # part of their site.
            message = "Without a key, the inbox is at localhost and loopback addresses alone"
            return JSONResponse({"message": message}, 403)
        fetched = request.headers.get("sec-fetch-mode", "navigate") != "navigate"
        if fetched and request.headers.get("sec-fetch-site") == "cross-site":
            # A page of another site in the same browser; CORS would let it read everything.
            return JSONResponse({"message": "Pages of other sites may not read the inbox"}, 403)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        path = path.rstrip("/")
        if path.startswith("/api/v1/"):
            return await self._mailpit(request, path.removeprefix("/api/v1"))
        match request.method, path:
            case "GET" | "HEAD", "":
                shown = "".join(map(_article, self.emails()))
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

    async def _mailpit(self, request: Request, path: str) -> Response:
        query = request.query_params.get("query", "").strip()
        match request.method, path.split("/")[1:]:
            case "GET" | "HEAD", ["messages"]:
                return self._listed(request, list(self._emails))
            case "GET" | "HEAD" | "DELETE", ["search"] if not query:
                return _text("Error: no search query", 400)
            case "GET" | "HEAD", ["search"]:
                return self._listed(request, mailpit.search(self._emails, query))
            case "GET" | "HEAD", ["message", id, *part] if email := self._find(id):
                return _part(email, part)
            case "DELETE", ["search"]:
                self._delete(email.id for email in mailpit.search(self._emails, query))
                return _text("ok")
            case "DELETE", ["messages"]:
                try:
                    ids = await _read_ids(request)
                except ValueError as error:
                    return _text(f"Error: {error}", 400)
                self._delete(ids or [email.id for email in self._emails])
                return _text("ok")
            case _, ["messages" | "search"]:
                return _text("405 method not allowed", 405)
        return _text("404 page not found", 404)

    def _listed(self, request: Request, found: Sequence[StoredEmail]) -> Response:
        start = _number(request, "start", 0)
        limit = _number(request, "limit", DEFAULT_LIMIT)
        content = mailpit.summary_list(found, self._emails, start, limit)
        return JSONResponse(content, headers=_HEADERS)

    def _find(self, id: str) -> StoredEmail | None:
        if id == NEWEST:
            return self._emails[0] if self._emails else None
        return next((email for email in self._emails if email.id == id), None)

    def _delete(self, ids: Iterable[str]) -> None:
        deleted = set(ids)
        kept = [email for email in self._emails if email.id not in deleted]
        self._emails = deque(kept, maxlen=MAX_EMAILS)

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


def _part(email: StoredEmail, part: list[str]) -> Response:
    match part:
        case []:
            email.is_read = True
            return JSONResponse(mailpit.detail(email), headers=_HEADERS)
        case ["headers"]:
            return JSONResponse(mailpit.headers(email), headers=_HEADERS)
        case ["raw"]:
            return _text(bytes(email.message).decode("utf-8", "replace"))
    return _text("404 page not found", 404)


def _names_this_machine(request: Request) -> bool:
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return False
    return is_loopback(host or "")


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, "")
    return int(value) if value.isdecimal() and len(value) <= MAX_DIGITS else default


async def _read_ids(request: Request) -> list[str]:
    """Return the ids that the body names; none where it, its object or its list is empty, which
    means all.

    Mailpit deletes all for any other body too. Raises ValueError for it.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"the body has more than {MAX_BODY_BYTES} bytes")
    if not body:
        return []
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if content == {}:
        return []
    # Mailpit reads names in any case.
    members = content.items() if isinstance(content, dict) else ()
    ids = next((value for name, value in members if name.lower() == "ids"), None)
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise ValueError('the body must be empty or {"IDs": ["…"]}')
    return ids


def _text(content: str, status: int = 200) -> Response:
    return Response(content, status, _HEADERS, media_type="text/plain; charset=utf-8")


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
