"""List what is in a bucket, by folders: the parts of a name up to a slash."""

import base64
import binascii
from datetime import datetime
from typing import Literal

import orjson
from sqlalchemy import RowMapping, text

from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.storage.errors import InvalidParameter

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
        min(created_at) AS updated_at, min(created_at) AS created_at,
        CAST(NULL AS timestamptz) AS last_accessed_at, CAST(NULL AS jsonb) AS metadata,
        {place} AS place
    FROM below WHERE rest LIKE '%/%'
    GROUP BY split_part(rest, '/', 1)
    UNION ALL
"""
_NOWHERE = "CAST('-infinity' AS timestamptz)"


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
    column: PageColumn,
    order: Order,
    cursor: str | None,
    limit: int,
) -> tuple[list[RowMapping], str | None]:
    """List the objects whose name begins with a prefix; return the cursor of the next page, if any.

    Args:
        by_folder: whether objects in folders below are listed by their folder, once, without an id.

    Raises:
        InvalidParameter: the cursor is not one of a list.
    """
    place = _NOWHERE if column == "name" else f"coalesce({column}, {_NOWHERE})"
    files = _FILES.format(place=place, where="WHERE rest NOT LIKE '%/%'" if by_folder else "")
    folders = _FOLDERS.format(
        place=_NOWHERE if column == "name" else f"coalesce(min(created_at), {_NOWHERE})"
    )
    statement = _BELOW.format_map(_AS_WRITTEN) + _PAGE.format(
        files=folders + files if by_folder else files,
        order=order,
        after="<" if order == "desc" else ">",
    )
    after_place, after_name = _read(cursor) if cursor else (None, None)
    limit = min(limit, MAX_PAGE)
    values = {
        "bucket": bucket,
        "prefix": prefix,
        "pattern": _beginning(prefix),
        "after_place": after_place,
        "after_name": after_name,
        "limit": limit + 1,
    }
    rows = [*(await connection.execute(text(statement), values)).mappings()]
    more = len(rows) > limit
    rows = rows[:limit]
    return rows, _cursor(rows[-1], column) if more else None


def _beginning(prefix: str) -> str:
    """Return a pattern of LIKE for what begins so."""
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _cursor(row: RowMapping, column: PageColumn) -> str:
    value: datetime | None = None if column == "name" else row[column]
    place = "-infinity" if value is None else value.isoformat()
    return base64.urlsafe_b64encode(orjson.dumps([place, row["name"]])).decode()


def _read(cursor: str) -> tuple[str, str]:
    try:
        match orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii"))):
            case [str(place), str(name)] if "\0" not in name:
                if place != "-infinity":
                    datetime.fromisoformat(place)
                return place, name
    except (ValueError, binascii.Error):
        pass
    raise InvalidParameter("Invalid Parameter cursor")
