"""What calls answer: files, and what is known of files and buckets."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from amphibase.backend.files import ByteRange, File, OpenFile
from amphibase.blobs.download import NOTHING_RUNS, is_known, range_of
from amphibase.gateway.storage.store import facts_of, size_of, type_of
from amphibase.models import utc_now

_ETAG = re.compile(r"[!#-~]+")


def moment(value: datetime | None) -> str | None:
    """A time as JavaScript writes it."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bucket(row: RowMapping) -> dict[str, Any]:
    """A bucket."""
    return {
        "id": row["id"],
        "name": row["name"],
        # Clients take it for a text that is always there.
        "owner": str(row["owner"] or row["owner_id"] or ""),
        "public": bool(row["public"]),
        "type": row["type"],
        "file_size_limit": row["file_size_limit"],
        "allowed_mime_types": row["allowed_mime_types"],
        "created_at": moment(row["created_at"]),
        "updated_at": moment(row["updated_at"]),
    }


def whole_object(row: RowMapping) -> dict[str, Any]:
    """All columns of a file's row."""
    times = ("created_at", "updated_at", "last_accessed_at")
    return {str(name): moment(value) if name in times else value for name, value in row.items()}


def info(row: RowMapping) -> dict[str, Any]:
    """What is known of a file."""
    facts = facts_of(row)
    return {
        "id": row["id"],
        "name": row["name"],
        "version": row["version"],
        "bucket_id": row["bucket_id"],
        "size": facts.get("size"),
        "content_type": facts.get("mimetype"),
        "cache_control": facts.get("cacheControl"),
        "etag": facts.get("eTag"),
        "metadata": row["user_metadata"],
        "last_modified": moment(row["updated_at"]),
        "created_at": moment(row["created_at"]),
    }


def file_of(row: RowMapping) -> File:
    """The row, as far as an answer that carries the file wants to know."""
    return File(
        bucket=row["bucket_id"],
        path=row["name"],
        size=size_of(row),
        content_type=type_of(row),
        etag=_etag(row),
        owner_id=None,
        public=False,
        created_at=row["created_at"] or utc_now(),
        updated_at=row["updated_at"] or utc_now(),
    )


def headers_of(
    row: RowMapping, *, download: str | None = None, expires: int | None = None
) -> dict[str, str]:
    """What every answer with a file says.

    Args:
        download: the name to save it under, which may be empty; None where it is to be shown.
        expires: until when it may be kept, in seconds since 1970, in place of what its sender said.
    """
    file = file_of(row)
    headers = {
        "Content-Type": _shown_type(file.content_type),
        "ETag": f'"{file.etag}"',
        "Last-Modified": format_datetime(_modified(row, file), usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }
    if expires is None:
        said = str(facts_of(row).get("cacheControl") or "")
        headers["Cache-Control"] = said if said and _is_header(said) else "no-cache"
    else:
        headers["Expires"] = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
    if file.content_type != "application/pdf":  # whose viewers do not start in a sandbox
        headers["Content-Security-Policy"] = NOTHING_RUNS
    if download is not None:
        name = quote(download, safe="")
        headers["Content-Disposition"] = "attachment;" + (
            f" filename={name}; filename*=UTF-8''{name};" if name else ""
        )
    return headers


def has_it(request: Request, row: RowMapping) -> bool:
    """Whether the client has the file as it is."""
    file = file_of(row)
    if "if-none-match" in request.headers:
        return is_known(request, file)
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
        return _modified(row, file) <= since.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return False


def not_modified(headers: dict[str, str]) -> Response:
    """The answer to who has the file as it is."""
    kept = ("ETag", "Cache-Control", "Expires", "Last-Modified")
    return Response(
        status_code=304, headers={name: headers[name] for name in kept if name in headers}
    )


def asked_part(request: Request, row: RowMapping) -> ByteRange | None:
    """The part that is asked for; None for all."""
    return range_of(request, file_of(row))


def opened(row: RowMapping, start: int, stop: int, chunks: Any) -> OpenFile:
    """The bytes of a file, on their way."""
    return OpenFile(file_of(row), start, stop, chunks)


def _etag(row: RowMapping) -> str:
    said = str(facts_of(row).get("eTag") or row["version"] or "").strip('"')
    return said if _ETAG.fullmatch(said) else str(row["id"])


def _modified(row: RowMapping, file: File) -> datetime:
    try:
        found = datetime.fromisoformat(facts_of(row)["lastModified"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        found = file.updated_at.astimezone(UTC)
    return found.replace(microsecond=0)


def _shown_type(kind: str) -> str:
    """Pages are shown as text: they would run in the name of whoever serves the project."""
    if not _is_header(kind):
        return "application/octet-stream"
    return "text/plain" if "text/html" in kind.lower() else kind


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable()
