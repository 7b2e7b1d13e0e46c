"""The rows of multipart uploads and their parts, as upstream's tables have them."""

from typing import Any

from sqlalchemy import RowMapping, text

from amphibase.database.sql_connection import SqlConnection

_ADD = text("""
INSERT INTO storage.s3_multipart_uploads
    (id, upload_signature, bucket_id, key, version, owner_id, user_metadata, metadata)
VALUES (:id, '', :bucket, :key, :version, :owner, CAST(:user_metadata AS jsonb),
    CAST(:metadata AS jsonb))
""")
_FIND = """
SELECT * FROM storage.s3_multipart_uploads WHERE id = :id AND bucket_id = :bucket AND key = :key
"""
_FIND_ONE, _LOCK_ONE = text(_FIND), text(_FIND + " FOR UPDATE")
_COUNT = text("""
SELECT count(owner_id) AS users, count(*) FILTER (WHERE owner_id IS NOT DISTINCT FROM :owner) AS own
FROM storage.s3_multipart_uploads
""")
_ADD_PART = text("""
INSERT INTO storage.s3_multipart_uploads_parts
    (upload_id, size, part_number, bucket_id, key, etag, owner_id, version)
VALUES (:upload, :size, :number, :bucket, :key, :etag, :owner, :version)
""")
_DELETE_PART = text("""
DELETE FROM storage.s3_multipart_uploads_parts
WHERE upload_id = :upload AND part_number = :number RETURNING version
""")
_PARTS = text("""
SELECT part_number, size, etag, version, created_at FROM storage.s3_multipart_uploads_parts
WHERE upload_id = :upload AND part_number > :after ORDER BY part_number LIMIT :limit
""")
# First the lock, which waits for a part that is being added, then what is there.
_LOCK = text("SELECT 1 FROM storage.s3_multipart_uploads WHERE id = :id FOR UPDATE")
_VERSIONS = text("SELECT version FROM storage.s3_multipart_uploads_parts WHERE upload_id = :id")
_DELETE = text("DELETE FROM storage.s3_multipart_uploads WHERE id = :id")
_DELETE_ALL = text("""
WITH deleted AS (DELETE FROM storage.s3_multipart_uploads WHERE bucket_id = :bucket RETURNING id)
SELECT version FROM storage.s3_multipart_uploads_parts WHERE upload_id IN (SELECT id FROM deleted)
""")
# `entry` is a key, or what several have in common up to a delimiter behind the prefix.
_LIST = text("""
WITH below AS (
    SELECT id, key, created_at, CAST(:delimiter AS text) <> '' AND position(
            CAST(:delimiter AS text) IN substr(key, length(CAST(:prefix AS text)) + 1)
        ) > 0 AS is_common
    FROM storage.s3_multipart_uploads
    WHERE bucket_id = :bucket AND starts_with(key, :prefix)
        AND (CAST(:owner AS text) IS NULL OR owner_id = :owner)
), entries AS (
    SELECT is_common, created_at, CASE WHEN is_common THEN '' ELSE id END AS id,
        CASE WHEN is_common THEN CAST(:prefix AS text) || split_part(
            substr(key, length(CAST(:prefix AS text)) + 1), CAST(:delimiter AS text), 1
        ) || CAST(:delimiter AS text) ELSE key END COLLATE "C" AS entry
    FROM below
)
SELECT DISTINCT ON (entry, id) entry, id, is_common, created_at FROM entries
WHERE (entry, id) > (CAST(:key AS text) COLLATE "C", CAST(:id AS text))
ORDER BY entry, id LIMIT :limit
""")
_EXPIRED = text("""
SELECT id, bucket_id, key FROM storage.s3_multipart_uploads upload
WHERE greatest(created_at, (
    SELECT max(created_at) FROM storage.s3_multipart_uploads_parts WHERE upload_id = upload.id
)) < now() - make_interval(secs => :seconds) LIMIT 100
""")

ALL_PARTS = 10_000
"""The most parts of an upload (Amazon S3 User Guide, "multipart upload limits")."""


async def add(connection: SqlConnection, **values: Any) -> None:
    """Add an upload."""
    await connection.execute(_ADD, values)


async def find(
    connection: SqlConnection, id: str, bucket: str, key: str, *, lock: bool = False
) -> RowMapping | None:
    """Find an upload.

    Args:
        lock: keep others from adding parts to it until the transaction ends.
    """
    statement = _LOCK_ONE if lock else _FIND_ONE
    result = await connection.execute(statement, {"id": id, "bucket": bucket, "key": key})
    return result.mappings().one_or_none()


async def count(connection: SqlConnection, owner: str | None) -> tuple[int, int]:
    """Count the unfinished uploads: those of all users, and an owner's; None is the service."""
    row = (await connection.execute(_COUNT, {"owner": owner})).mappings().one()
    return row["users"], row["own"]


async def add_part(connection: SqlConnection, **values: Any) -> str | None:
    """Add a part in the place of one with the same number; return that one's version."""
    replaced = await connection.scalar(
        _DELETE_PART, {"upload": values["upload"], "number": values["number"]}
    )
    await connection.execute(_ADD_PART, values)
    return None if replaced is None else str(replaced)


async def parts(
    connection: SqlConnection, upload: str, *, after: int = 0, limit: int = ALL_PARTS
) -> list[RowMapping]:
    """Return parts by their number, after one."""
    values = {"upload": upload, "after": after, "limit": limit}
    return [*(await connection.execute(_PARTS, values)).mappings()]


async def remove(connection: SqlConnection, id: str) -> list[str]:
    """Delete an upload with its parts; return their versions."""
    await connection.execute(_LOCK, {"id": id})
    versions = [*await connection.scalars(_VERSIONS, {"id": id})]
    await connection.execute(_DELETE, {"id": id})
    return versions


async def remove_all(connection: SqlConnection, bucket: str) -> list[str]:
    """Delete all uploads to a bucket; return the versions of their parts."""
    return [*await connection.scalars(_DELETE_ALL, {"bucket": bucket})]


async def unfinished(connection: SqlConnection, **values: Any) -> list[RowMapping]:
    """Return uploads of a bucket by key, after one."""
    return [*(await connection.execute(_LIST, values)).mappings()]


async def expired(connection: SqlConnection, seconds: float) -> list[RowMapping]:
    """Return uploads to which nothing came for so long."""
    return [*(await connection.execute(_EXPIRED, {"seconds": seconds})).mappings()]
