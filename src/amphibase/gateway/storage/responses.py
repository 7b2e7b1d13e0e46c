"""Bodies and headers of responses with buckets and objects."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import RowMapping

from amphibase.backend.files import File
from amphibase.blobs.download import SANDBOX_POLICY
from amphibase.column_defaults import utc_now
from amphibase.gateway.storage.errors import InvalidRobotsTag
from amphibase.gateway.storage.object_rows import metadata_of, size_of, type_of
from amphibase.gateway.storage.robots import NOTHING, check_robots_tag

_ETAG = re.compile(r"[!#-~]+")

OBJECT_COLUMNS = (
    *("name", "bucket_id", "owner", "owner_id", "version", "id"),
    *("updated_at", "created_at", "last_accessed_at", "metadata", "user_metadata"),
)

UNRESERVED = "!'()*"
"""What JavaScript's encodeURIComponent leaves as it is, beside letters, digits and `-_.~`."""


def timestamp(value: datetime | None) -> str | None:
    """Write a time as JavaScript does."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bucket_json(row: RowMapping) -> dict[str, Any]:
    """Return a bucket as clients know it."""
    return {
        "id": row["id"],
        "name": row["name"],
        # Clients take it for a text that is always there.
        "owner": str(row["owner"] or row["owner_id"] or ""),
        "public": bool(row["public"]),
        "file_size_limit": row["file_size_limit"],
        "allowed_mime_types": row["allowed_mime_types"],
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
    }


def object_json(row: RowMapping) -> dict[str, Any]:
    """Return all columns of an object's row, in upstream's order."""
    return {name: _column(name, row[name]) for name in OBJECT_COLUMNS if name in row}


def _column(name: str, value: Any) -> Any:
    if name in ("created_at", "updated_at", "last_accessed_at"):
        return timestamp(value)
    # Clients take these for texts that are always there, as upstream writes them.
    return "" if value is None and name in ("owner", "owner_id", "version") else value


def info_json(row: RowMapping) -> dict[str, Any]:
    """Return what `/object/info` says of an object."""
    metadata = metadata_of(row)
    return {
        "id": row["id"],
        "name": row["name"],
        "version": row["version"],
        "bucket_id": row["bucket_id"],
        "size": metadata.get("size"),
        "content_type": metadata.get("mimetype"),
        "cache_control": metadata.get("cacheControl"),
        "etag": metadata.get("eTag"),
        "metadata": row["user_metadata"],
        "last_modified": timestamp(row["updated_at"]),
        "created_at": timestamp(row["created_at"]),
    }


def file_of(row: RowMapping) -> File:
    """Return what a response with an object's bytes needs to know of its row."""
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
    """Return the headers of a response with an object.

    Args:
        download: the name to save it under, which may be empty; None to show it.
        expires: until when it may be cached, in seconds since 1970, in place of its own rule.
    """
    file = file_of(row)
    headers = {
        "Content-Type": _shown_type(file.content_type),
        "ETag": f'"{file.etag}"',
        "Last-Modified": format_datetime(modified_at(row), usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": _robots_tag(row),
    }
    if expires is None:
        rule = str(metadata_of(row).get("cacheControl") or "")
        headers["Cache-Control"] = rule if rule and _is_header(rule) else "no-cache"
    else:
        headers["Expires"] = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
    if file.content_type != "application/pdf":  # whose viewers do not start in a sandbox
        headers["Content-Security-Policy"] = SANDBOX_POLICY
    if download is not None:
        name = quote(download, safe=UNRESERVED)
        headers["Content-Disposition"] = "attachment;" + (
            f" filename={name}; filename*=UTF-8''{name}" if name else ""
        )
    return headers


def _robots_tag(row: RowMapping) -> str:
    tag = metadata_of(row).get("xRobotsTag")
    try:
        if isinstance(tag, str):
            check_robots_tag(tag)
            return tag
    except InvalidRobotsTag:  # written by others
        pass
    return NOTHING


def _etag(row: RowMapping) -> str:
    etag = str(metadata_of(row).get("eTag") or row["version"] or "").strip('"')
    return etag if _ETAG.fullmatch(etag) else str(row["id"])


def modified_at(row: RowMapping) -> datetime:
    """Return when an object's bytes were stored, to the second."""
    try:
        modified = datetime.fromisoformat(metadata_of(row)["lastModified"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        modified = (row["updated_at"] or utc_now()).astimezone(UTC)
    return modified.replace(microsecond=0)


def _shown_type(content_type: str) -> str:
    """Return the type; pages become text, since they would run in the origin of the project."""
    if not _is_header(content_type):
        return "application/octet-stream"
    return "text/plain" if "text/html" in content_type.lower() else content_type


def _is_header(value: str) -> bool:
    return value.isascii() and value.isprintable()
