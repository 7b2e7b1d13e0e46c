"""Responses that carry a file: caching, ranges, and headers that keep a browser from running what
a user has uploaded."""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from amphibase.backend.files import ByteRange, File, OpenFile

INLINE_TYPES = re.compile(
    r"image/(?!svg)[\w.+-]+|audio/[\w.+-]+|video/[\w.+-]+|text/plain|application/pdf"
)
"""What a browser may show; everything else it may only save."""

SANDBOX_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
NO_RANGE: ByteRange = (None, None)
"""A part that no file has."""

KEPT_IN_304 = ("ETag", "Cache-Control", "Expires", "Last-Modified")

Opener = Callable[[ByteRange | None], Awaitable[tuple[OpenFile, Mapping[str, str]]]]

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,100})\s*-\s*(\d{0,100})\s*")
_OTHER_UNIT = re.compile(r"(?!bytes\b)[A-Za-z][\w-]*\s*=.*", re.DOTALL)


class FileResponse(StreamingResponse):
    """A file that was opened, whole or in part."""

    def __init__(self, opened: OpenFile, headers: Mapping[str, str], *, whole: bool) -> None:
        headers = {**headers, "Content-Length": str(opened.stop - opened.start)}
        if not whole:
            span = f"{opened.start}-{opened.stop - 1}"
            headers["Content-Range"] = f"bytes {span}/{opened.file.size}"
        super().__init__(opened.chunks, 200 if whole else 206, headers)

    async def stream_response(self, send: Send) -> None:
        chunks: Any = self.body_iterator
        try:
            await super().stream_response(send)
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()


def headers_of(file: File, *, download: bool = False) -> dict[str, str]:
    """Return the headers of a response with a file.

    Args:
        download: whether the browser is to save it, whatever it is.
    """
    content_type = file.content_type
    if not (content_type.isascii() and content_type.isprintable()):  # written by others
        content_type = "application/octet-stream"
    inline = not download and INLINE_TYPES.fullmatch(content_type)
    name = file.path.rpartition("/")[2]
    plain = re.sub(r"[^ !#-\[\]-~]", "_", name)
    headers = {
        "Content-Type": content_type,
        "Content-Disposition": f'{"inline" if inline else "attachment"}; filename="{plain}"'
        + ("" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"),
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, no-cache" if file.public else "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if content_type != "application/pdf":  # whose viewers do not start in a sandbox
        headers["Content-Security-Policy"] = SANDBOX_POLICY
    return headers


async def respond(
    request: Request,
    file: File,
    headers: Mapping[str, str],
    open: Opener,
    *,
    modified_at: datetime | None = None,
) -> Response:
    """Respond with a file: whole, in part, its headers alone (`HEAD`), or that it has not changed.

    Args:
        file: as it is known before its bytes are opened.
        headers: of a response with this file.
        open: opens a part of the bytes, None for all; returns them with the headers of the file
            that they are of, which may be a newer one.
        modified_at: when its bytes were stored; None where that is not a condition.

    Raises:
        RangeNotSatisfiable: the file has no such part.
    """
    if is_current(request, file, modified_at):
        return not_modified(headers)
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(file.size)})
    part = range_of(request, file)
    opened, headers = await open(part)
    if part is not None and range_of(request, opened.file) is None:
        # Replaced a moment ago: a part of the new bytes must not be joined to the old ones.
        part = None
        opened, headers = await open(None)
    return FileResponse(opened, headers, whole=part is None)


def is_current(request: Request, file: File, modified_at: datetime | None = None) -> bool:
    """Return whether the client has these bytes (`If-None-Match`, else `If-Modified-Since`; RFC
    9110, section 13.2.2)."""
    condition = request.headers.get("if-none-match")
    if condition is not None:
        tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
        return f'"{file.etag}"' in tags or "*" in tags
    if modified_at is None:
        return False
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
        return modified_at <= since.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return False


def not_modified(headers: Mapping[str, str]) -> Response:
    """Respond to a client that has these bytes (RFC 9110, section 15.4.5)."""
    return Response(
        status_code=304, headers={name: headers[name] for name in KEPT_IN_304 if name in headers}
    )


def range_of(request: Request, file: File) -> ByteRange | None:
    """Return the part that a request wants; None for all. The response to several parts at once is
    all, and units other than bytes are ignored (RFC 9110, section 14.2)."""
    wanted = request.headers.get("range")
    condition = request.headers.get("if-range")
    if wanted is None or (condition is not None and condition != f'"{file.etag}"'):
        return None
    if _OTHER_UNIT.fullmatch(wanted):
        return None
    first, comma, _ = wanted.partition(",")
    match = _RANGE.fullmatch(first)
    if match is None:
        return NO_RANGE
    if comma:
        return None
    start, stop = match.groups()
    return (int(start) if start else None, int(stop) if stop else None)
