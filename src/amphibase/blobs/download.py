"""The answer that carries a file: caching, ranges, and headers that keep a browser from running
what somebody uploaded."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from amphibase.backend.files import ByteRange, File, OpenFile

HARMLESS = re.compile(
    r"image/(?!svg)[\w.+-]+|audio/[\w.+-]+|video/[\w.+-]+|text/plain|application/pdf"
)
"""What a browser may show; everything else it may only save."""

NOTHING_RUNS = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
NONSENSE: ByteRange = (None, None)

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
    """What every answer about a file says.

    Args:
        download: the browser is to save it, whatever it is.
    """
    kind = file.content_type
    if not (kind.isascii() and kind.isprintable()):  # a row that was not written here
        kind = "application/octet-stream"
    shown = not download and HARMLESS.fullmatch(kind)
    name = file.path.rpartition("/")[2]
    plain = re.sub(r"[^ !#-\[\]-~]", "_", name)
    headers = {
        "Content-Type": kind,
        "Content-Disposition": f'{"inline" if shown else "attachment"}; filename="{plain}"'
        + ("" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"),
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, no-cache" if file.public else "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if kind != "application/pdf":  # whose viewers do not start in a sandbox
        headers["Content-Security-Policy"] = NOTHING_RUNS
    return headers


def is_known(request: Request, file: File) -> bool:
    """Whether the client has these bytes already (`If-None-Match`)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return f'"{file.etag}"' in tags or "*" in tags


def not_modified(file: File) -> Response:
    """The answer to who has these bytes already."""
    headers = headers_of(file)
    return Response(
        status_code=304, headers={name: headers[name] for name in ("ETag", "Cache-Control")}
    )


def range_of(request: Request, file: File) -> ByteRange | None:
    """The part that is asked for; None for all. Several parts at once are answered with all, and
    units that are not bytes are ignored (RFC 9110, section 14.2)."""
    given = request.headers.get("range")
    condition = request.headers.get("if-range")
    if given is None or (condition is not None and condition != f'"{file.etag}"'):
        return None
    if _OTHER_UNIT.fullmatch(given):
        return None
    first, comma, _ = given.partition(",")
    found = _RANGE.fullmatch(first)
    if found is None:
        return NONSENSE
    if comma:
        return None
    start, stop = found.groups()
    return (int(start) if start else None, int(stop) if stop else None)
