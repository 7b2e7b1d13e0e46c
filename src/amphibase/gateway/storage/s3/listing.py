"""Objects of a bucket by the S3 protocol: in the order of their bytes, by prefix and delimiter."""

import base64
import binascii

from sqlalchemy import RowMapping, text
from starlette.responses import Response

from amphibase.gateway.storage.errors import InvalidParameter
from amphibase.gateway.storage.object_rows import metadata_of, size_of
from amphibase.gateway.storage.responses import timestamp
from amphibase.gateway.storage.s3.errors import InvalidArgument
from amphibase.gateway.storage.s3.request import S3Request
from amphibase.gateway.storage.s3.xml import Value, xml_response

MAX_KEYS = 1000

# `entry` is an object's name, or what several have in common up to a delimiter behind the prefix.
_LIST = text("""
WITH below AS (
    SELECT name, updated_at, created_at, metadata, version,
        CAST(:delimiter AS text) <> '' AND position(
            CAST(:delimiter AS text) IN substr(name, length(CAST(:prefix AS text)) + 1)
        ) > 0 AS is_common
    FROM storage.objects
    WHERE bucket_id = :bucket AND starts_with(name, :prefix)
        AND name COLLATE "C" > CAST(:after AS text)
), entries AS (
    SELECT *, CASE WHEN is_common THEN CAST(:prefix AS text) || split_part(
            substr(name, length(CAST(:prefix AS text)) + 1), CAST(:delimiter AS text), 1
        ) || CAST(:delimiter AS text) ELSE name END COLLATE "C" AS entry
    FROM below
)
SELECT DISTINCT ON (entry) entry, is_common, updated_at, created_at, metadata, version
FROM entries WHERE entry > CAST(:after AS text) COLLATE "C"
ORDER BY entry LIMIT :limit
""")


async def list_v1(s3: S3Request) -> Response:
    """ListObjects."""
    marker = s3.query.get("marker", "")
    rows, is_truncated = await _entries(s3, marker)
    delimiter = s3.query.get("delimiter", "")
    last = rows[-1]["entry"] if is_truncated and delimiter else None
    fields: list[tuple[str, Value]] = [
        ("Name", s3.bucket),
        ("Prefix", s3.encoded(s3.query.get("prefix", ""))),
        ("Marker", s3.encoded(marker)),
        ("NextMarker", None if last is None else s3.encoded(last)),
        *_common_fields(s3, rows, is_truncated),
    ]
    return xml_response("ListBucketResult", fields)


async def list_v2(s3: S3Request) -> Response:
    """ListObjectsV2."""
    token, start = s3.query.get("continuation-token"), s3.query.get("start-after", "")
    rows, is_truncated = await _entries(s3, start if token is None else _read_token(token))
    fields: list[tuple[str, Value]] = [
        ("Name", s3.bucket),
        ("Prefix", s3.encoded(s3.query.get("prefix", ""))),
        ("KeyCount", len(rows)),
        ("ContinuationToken", token or ""),
        ("NextContinuationToken", _token(rows[-1]["entry"]) if is_truncated else None),
        ("StartAfter", s3.encoded(start)),
        *_common_fields(s3, rows, is_truncated),
    ]
    return xml_response("ListBucketResult", fields)


async def _entries(s3: S3Request, after: str) -> tuple[list[RowMapping], bool]:
    operation = "storage.s3.object.list"
    await s3.context.buckets.find(s3.context.service(s3.http), s3.bucket, operation)
    limit = _limit(s3)
    values = {
        "bucket": s3.bucket,
        "prefix": s3.query.get("prefix", ""),
        "delimiter": s3.query.get("delimiter", ""),
        "after": after,
        "limit": limit + 1,
    }
    if any("\0" in str(value) for value in values.values()):
        raise InvalidArgument("A parameter must not hold the character NUL")
    async with s3.context.transactions.as_caller(s3.caller, operation) as connection:
        rows = [*(await connection.execute(_LIST, values)).mappings()]
    return rows[:limit], len(rows) > limit > 0


def _limit(s3: S3Request) -> int:
    return min(s3.number("max-keys", MAX_KEYS), MAX_KEYS)


def _common_fields(
    s3: S3Request, rows: list[RowMapping], is_truncated: bool
) -> list[tuple[str, Value]]:
    # What the request does not say is empty and not left out, as upstream.
    fields: list[tuple[str, Value]] = [
        ("MaxKeys", _limit(s3)),
        ("Delimiter", s3.encoded(s3.query.get("delimiter", ""))),
        ("EncodingType", s3.encoding_type),
        ("IsTruncated", is_truncated),
    ]
    fields += [("Contents", _contents(s3, row)) for row in rows if not row["is_common"]]
    fields += [
        ("CommonPrefixes", [("Prefix", s3.encoded(row["entry"]))])
        for row in rows
        if row["is_common"]
    ]
    return fields


def _contents(s3: S3Request, row: RowMapping) -> Value:
    return [
        ("Key", s3.encoded(row["entry"])),
        ("LastModified", timestamp(row["updated_at"] or row["created_at"])),
        ("ETag", str(metadata_of(row).get("eTag") or f'"{row["version"]}"')),
        ("Size", size_of(row)),
        ("StorageClass", "STANDARD"),
    ]


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidParameter("Invalid Parameter continuation token") from None
