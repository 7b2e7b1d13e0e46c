"""List what is in a bucket, by folders: the parts of a name up to a slash."""

import base64
import binascii
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import RowMapping, text

from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.storage.errors import InvalidParameter
from amphibase.gateway.storage.responses import timestamp

MAX_LISTED = 1500
MAX_PAGE = 1000

Column = Literal["name", "updated_at", "created_at", "last_accessed_at"]
PageColumn = Literal["name", "updated_at", "created_at"]
Order = Literal["asc", "desc"]

# The names below a prefix: `rest` is what follows it.
_BELOW = """
WITH below AS (
    SELECT id, name, created_at, updated_at, last_accessed_at, metadata,
        substr(name, length(CAST(:prefix AS text)) + 1) AS rest
    FROM storage.objects
    WHERE bucket_id = :bucket AND {name} LIKE {pattern}
)
"""
_AS_WRITTEN = {"name": "name", "pattern": ":pattern"}
_IN_ANY_CASE = {"name": "lower(name)", "pattern": "lower(:pattern)"}

_LISTED = """
SELECT name, id, updated_at, created_at, last_accessed_at, metadata FROM (
    SELECT DISTINCT split_part(rest, '/', 1) AS name, CAST(NULL AS uuid) AS id,
        CAST(NULL AS timestamptz) AS updated_at, CAST(NULL AS timestamptz) AS created_at,
        CAST(NULL AS timestamptz) AS last_accessed_at, CAST(NULL AS jsonb) AS metadata
    FROM below WHERE rest LIKE '%/%' AND rest ILIKE :search
    UNION ALL
    SELECT rest, id, updated_at, created_at, last_accessed_at, metadata
    FROM below WHERE rest NOT LIKE '%/%' AND rest <> '' AND rest ILIKE :search
) AS entries
ORDER BY {place}, name COLLATE "C" {order}
LIMIT :limit OFFSET :offset
"""
# By name, a folder stands where its first file would. It has no times: by those it comes first.
_BY_NAME = """lower(name || CASE WHEN id IS NULL THEN '/' ELSE '' END) COLLATE "C" {order}"""
_BY_TIME = "(id IS NOT NULL), {column} {order}"

# In pages a folder is as old as the oldest file in it.
_PAGE = """
SELECT id, name, updated_at, created_at, last_accessed_at, metadata FROM (
    {files}
) AS entries
WHERE CAST(:after_name AS text) IS NULL
    OR (place, name COLLATE "C") {after} (CAST(:after_place AS timestamptz), :after_name)
ORDER BY place {order}, name COLLATE "C" {order}
LIMIT :limit
"""
_FILES = """
    SELECT id, name, updated_at, created_at, last_accessed_at, metadata, {place} AS place
    FROM below {where}
"""
_FOLDERS = """
    SELECT CAST(NULL AS uuid) AS id, :prefix || split_part(rest, '/', 1) || '/' AS name,
        {created} AS updated_at, {created} AS created_at,
        CAST(NULL AS timestamptz) AS last_accessed_at, CAST(NULL AS jsonb) AS metadata,
        {place} AS place
    FROM below WHERE rest LIKE '%/%'
    GROUP BY split_part(rest, '/', 1)
    UNION ALL
"""
_NOWHERE = "CAST('epoch' AS timestamptz)"
_TO_THE_MILLISECOND = f"coalesce(date_trunc('milliseconds', {{}}), {_NOWHERE})"
_NO_TIME = "CAST(NULL AS timestamptz)"


class ObjectCursor(NamedTuple):
    """Where a page ends, and how what follows is sorted: the lines of upstream's cursors.

    Attributes:
        name: of the last entry; the one of a folder ends with a slash.
        order, column: None for what was not asked for.
        time: of the last entry in that column, where it is one of times.
    """

    name: str
    order: str | None
    column: str | None
    time: str | None

    def text(self) -> str:
        """Return the cursor as clients send it back."""
        lines = (f"{key}:{value}" for key, value in zip("loca", self, strict=True) if value)
        return base64.b64encode("\n".join(lines).encode()).decode()


def read_cursor(text: str) -> ObjectCursor:
    """Read a cursor. Raises InvalidParameter."""
    try:
        lines = base64.b64decode(text.encode("ascii")).decode().split("\n")
        parts = dict(line.split(":", 1) for line in lines)
        time = parts.get("a")
        if not (parts.keys() <= set("loca") and "\0" not in parts.get("l", "")):
            raise ValueError
        if time is not None:
            datetime.fromisoformat(time)
    except (ValueError, binascii.Error):
        raise InvalidParameter("Invalid Parameter continuation token") from None
    return ObjectCursor(parts.get("l", ""), parts.get("o", "asc"), parts.get("c"), time)


async def list_folder(
    connection: SqlConnection,
    bucket: str,
    folder: str,
    *,
    search: str,
    column: Column,
    order: Order,
    limit: int,
    offset: int,
) -> list[RowMapping]:
    """List the folders and the objects in a folder, whose name is taken in any case, as upstream.

    Args:
        search: what their names begin with, in whatever case.
    """
    prefix = f"{folder}/" if folder and not folder.endswith("/") else folder
    place = _BY_NAME if column == "name" else _BY_TIME
    statement = _BELOW.format_map(_IN_ANY_CASE) + _LISTED.format(
        place=place.format(column=column, order=order), order=order
    )
    values = {
        "bucket": bucket,
        "prefix": prefix,
        "pattern": _beginning(prefix),
        "search": _beginning(search),
        "limit": min(limit, MAX_LISTED),
        "offset": offset,
    }
    return [*(await connection.execute(text(statement), values)).mappings()]


async def list_page(
    connection: SqlConnection,
    bucket: str,
    prefix: str,
    *,
    by_folder: bool,
    column: str | None,
    order: str | None,
    after: ObjectCursor | None,
    limit: int,
) -> tuple[list[RowMapping], ObjectCursor | None]:
    """List the objects whose name begins with a prefix; return where the page ends, if not with
    the last.

    Args:
        by_folder: whether objects in folders below are listed by their folder, once, without an id.
        column, order: by name and ascending where they are None; a cursor has its own.
    """
    if after is not None:
        column, order = after.column or column, after.order
    asked = (order, column)
    timed = column if column in ("updated_at", "created_at") else None
    place = _TO_THE_MILLISECOND.format(timed) if timed else _NOWHERE
    files = _FILES.format(place=place, where="WHERE rest NOT LIKE '%/%'" if by_folder else "")
    folders = _FOLDERS.format(
        place=_TO_THE_MILLISECOND.format("min(created_at)") if timed else _NOWHERE,
        created="min(created_at)" if timed else _NO_TIME,
    )
    statement = _BELOW.format_map(_AS_WRITTEN) + _PAGE.format(
        files=folders + files if by_folder else files,
        order="desc" if order == "desc" else "asc",
        after="<" if order == "desc" else ">",
    )
    limit = min(limit, MAX_PAGE)
    values = {
        "bucket": bucket,
        "prefix": prefix,
        "pattern": _beginning(prefix),
        "after_place": (after.time if after and timed else None) or "epoch",
        "after_name": after.name if after and after.name else None,
        "limit": limit + 1,
    }
    rows = [*(await connection.execute(text(statement), values)).mappings()]
    more = len(rows) > limit
    rows = rows[:limit]
    if not more:
        return rows, None
    time = timestamp(rows[-1][timed]) if timed else None
    return rows, ObjectCursor(rows[-1]["name"], *asked, time)


def _beginning(prefix: str) -> str:
    """Return a pattern of LIKE for what begins so."""
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
