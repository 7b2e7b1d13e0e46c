"""Multipart uploads by the S3 protocol: an object that comes in parts, in any order.

The bytes of a part are a blob in a folder of their own until the upload is completed or aborted, or
nothing came to it for as long as a resumable upload may rest.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterable, AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping
from starlette.responses import Response

from amphibase.background import uninterrupted
from amphibase.blobs.base import BlobMissing
from amphibase.blobs.swap import discard
from amphibase.gateway.storage import multipart_rows
from amphibase.gateway.storage.caller import SERVICE_ROLE
from amphibase.gateway.storage.errors import AccessDenied
from amphibase.gateway.storage.limits import checked_cache_control
from amphibase.gateway.storage.object_rows import size_of
from amphibase.gateway.storage.responses import timestamp
from amphibase.gateway.storage.s3.errors import (
    EntityTooSmall,
    InvalidArgument,
    InvalidCopiedRange,
    InvalidPart,
    InvalidPartOrder,
    MalformedXml,
    NoSuchS3Upload,
    ObjectTooLarge,
    TooManyUploads,
)
from amphibase.gateway.storage.s3.objects import check_source, copy_source
from amphibase.gateway.storage.s3.request import S3Request
from amphibase.gateway.storage.s3.xml import (
    MAX_BODY_BYTES,
    Value,
    parse,
    text_of,
    xml_response,
)
from amphibase.gateway.storage.upload_body import ANY_TYPE, MeasuredBody
from amphibase.gateway.storage.uploader import NewObject, Permission

MAX_PARTS = MAX_UPLOADS = 1000
"""How many are listed at once."""

MIN_PART_BYTES = 5 * 1024 * 1024
"""Of every part but the last (Amazon S3 User Guide, "multipart upload limits")."""

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})", re.ASCII)


async def create(s3: S3Request) -> Response:
    """CreateMultipartUpload; for the service and for users, who alone can go on with one."""
    is_service = s3.caller.role == SERVICE_ROLE.role
    if s3.caller.subject is None and not is_service:
        raise AccessDenied("Sign in to upload in parts")
    metadata = {
        "mimetype": s3.headers.get("content-type") or ANY_TYPE,
        "cacheControl": checked_cache_control(s3.headers.get("cache-control")),
    }
    user_metadata = s3.user_metadata()
    await _permission(s3, metadata, user_metadata, "storage.s3.upload.create_multipart")
    id, settings = str(uuid4()), s3.context.settings
    await _remove_expired(s3)
    async with s3.context.transactions.as_admin() as connection:
        users, own = await multipart_rows.count(connection, s3.caller.subject)
        # The service is not held up by what users leave behind.
        most = settings.max_unfinished_uploads
        if own >= (most if is_service else settings.max_unfinished_uploads_per_user):
            raise TooManyUploads
        if users >= most and not is_service:
            raise TooManyUploads
        await multipart_rows.add(
            connection,
            id=id,
            bucket=s3.bucket,
            key=s3.key,
            version=str(uuid4()),
            owner=s3.caller.subject,
            metadata=json.dumps(metadata),
            user_metadata=json.dumps(user_metadata),
        )
    fields = [("Bucket", s3.bucket), ("Key", s3.key), ("UploadId", id)]
    return xml_response("InitiateMultipartUploadResult", fields)


async def put_part(s3: S3Request) -> Response:
    """UploadPart."""
    payload = s3.payload()
    etag = await _store_part(s3, payload.chunks(), payload.size, "storage.s3.upload.part")
    exposed = {"Access-Control-Expose-Headers": "etag"}
    return Response(headers={"ETag": etag, **exposed, **payload.checksums.headers})


async def copy_part(s3: S3Request) -> Response:
    """UploadPartCopy."""
    operation = "storage.s3.upload.part_copy"
    row = await s3.context.objects.find(s3.caller, copy_source(s3), operation)
    check_source(s3, row)
    part = _copied_range(s3.headers.get("x-amz-copy-source-range"), size_of(row))
    opened = await s3.context.objects.open(s3.caller, row, part, operation)
    _, start, stop, chunks = opened
    etag = await _store_part(s3, chunks, stop - start, operation)
    return xml_response(
        "CopyPartResult", [("LastModified", timestamp(row["updated_at"])), ("ETag", etag)]
    )


async def complete(s3: S3Request) -> Response:
    """CompleteMultipartUpload: the parts, one after the other, become the object; where the body
    is empty, all of them."""
    body = await s3.payload().whole(MAX_BODY_BYTES)
    wanted = _wanted_parts(body) if body else None
    operation = "storage.s3.upload.complete_multipart"
    upload = await _find(s3)
    metadata, user_metadata = upload["metadata"] or {}, upload["user_metadata"] or {}
    async with s3.context.transactions.as_admin() as connection:
        stored = {
            row["part_number"]: row for row in await multipart_rows.parts(connection, upload["id"])
        }
    if wanted is None:
        wanted = [(number, row["etag"].strip('"')) for number, row in stored.items()]
    parts = _chosen(wanted, stored)
    permission = await _permission(s3, metadata, user_metadata, operation)
    if sum(part["size"] for part in parts) > permission.max_bytes:
        raise ObjectTooLarge

    async def content() -> AsyncIterator[bytes]:
        for part in parts:
            try:
                chunks = await s3.context.parts.read(UUID(part["version"]), 0, part["size"])
            except BlobMissing:
                raise InvalidPart from None
            async for data in chunks:
                yield data

    measured, version = MeasuredBody(content(), permission.max_bytes), uuid4()
    await s3.context.blobs.write(version, measured.chunks())
    digests = b"".join(bytes.fromhex(part["etag"].strip('"')) for part in parts)
    digest = hashlib.md5(digests, usedforsecurity=False).hexdigest()
    whole = measured.metadata(metadata["mimetype"], metadata["cacheControl"])
    whole["eTag"] = f'"{digest}-{len(parts)}"'
    new = _new(s3, metadata, user_metadata, operation)

    async def finish() -> None:
        await s3.context.uploader.write(
            new, permission, version, whole, user_metadata, stored_as=operation
        )
        await _remove(s3, upload["id"])

    await uninterrupted(finish())
    fields = [
        ("Location", f"{s3.bucket}/{s3.key}"),
        ("Bucket", s3.bucket),
        ("Key", s3.key),
        ("ETag", whole["eTag"]),
    ]
    return xml_response("CompleteMultipartUploadResult", fields)


async def abort(s3: S3Request) -> Response:
    """AbortMultipartUpload."""
    upload = await _find(s3)
    await _remove(s3, upload["id"])
    return Response(status_code=204)


async def list_parts(s3: S3Request) -> Response:
    """ListParts."""
    upload = await _find(s3)
    after = s3.number("part-number-marker", 0)
    limit = s3.number("max-parts", MAX_PARTS, least=1, most=MAX_PARTS)
    async with s3.context.transactions.as_admin() as connection:
        rows = await multipart_rows.parts(connection, upload["id"], after=after, limit=limit + 1)
    shown, is_truncated = rows[:limit], len(rows) > limit
    fields: list[tuple[str, Value]] = [
        ("Bucket", s3.bucket),
        ("Key", s3.key),
        ("UploadId", upload["id"]),
        ("PartNumberMarker", after),
        ("NextPartNumberMarker", shown[-1]["part_number"] if is_truncated else None),
        ("MaxParts", limit),
        ("IsTruncated", is_truncated),
    ]
    fields += [
        (
            "Part",
            [
                ("PartNumber", row["part_number"]),
                ("LastModified", timestamp(row["created_at"])),
                ("ETag", row["etag"]),
                ("Size", row["size"]),
            ],
        )
        for row in shown
    ]
    return xml_response("ListPartsResult", fields)


async def list_uploads(s3: S3Request) -> Response:
    """ListMultipartUploads: the caller's own, and for the service all."""
    service = s3.context.service(s3.http)
    await s3.context.buckets.find(service, s3.bucket, "storage.s3.upload.list_multipart")
    limit = s3.number("max-uploads", MAX_UPLOADS, least=1, most=MAX_UPLOADS)
    prefix, delimiter = s3.query.get("prefix", ""), s3.query.get("delimiter", "")
    key, id = s3.query.get("key-marker", ""), s3.query.get("upload-id-marker", "")
    if "\0" in prefix + delimiter + key + id:
        raise InvalidArgument("A parameter must not hold the character NUL")
    is_service = s3.caller.role == SERVICE_ROLE.role
    async with s3.context.transactions.as_admin() as connection:
        rows = await multipart_rows.unfinished(
            connection,
            bucket=s3.bucket,
            prefix=prefix,
            delimiter=delimiter,
            key=key,
            id=id or ("\U0010ffff" if key else ""),
            owner=None if is_service else s3.caller.subject or "",
            limit=limit + 1,
        )
    shown, is_truncated = rows[:limit], len(rows) > limit
    fields: list[tuple[str, Value]] = [
        ("Bucket", s3.bucket),
        ("KeyMarker", key),
        ("UploadIdMarker", id),
        ("NextKeyMarker", shown[-1]["entry"] if is_truncated else ""),
        ("NextUploadIdMarker", shown[-1]["id"] if is_truncated else ""),
        ("Prefix", s3.encoded(prefix)),
        ("Delimiter", s3.encoded(delimiter)),
        ("EncodingType", s3.encoding_type),
        ("MaxUploads", limit),
        ("IsTruncated", is_truncated),
    ]
    fields += [
        (
            "Upload",
            [
                ("Key", s3.encoded(row["entry"])),
                ("UploadId", row["id"]),
                ("Initiated", timestamp(row["created_at"])),
                ("StorageClass", "STANDARD"),
            ],
        )
        for row in shown
        if not row["is_common"]
    ]
    fields += [
        ("CommonPrefixes", [("Prefix", s3.encoded(row["entry"]))])
        for row in shown
        if row["is_common"]
    ]
    return xml_response("ListMultipartUploadsResult", fields)


async def _store_part(
    s3: S3Request, content: AsyncIterable[bytes], size: int, operation: str
) -> str:
    upload = await _find(s3)
    number = s3.number("partNumber", 0, least=1, most=multipart_rows.ALL_PARTS)
    permission = await _permission(
        s3, upload["metadata"] or {}, upload["user_metadata"] or {}, operation
    )
    if size > permission.max_bytes:
        raise ObjectTooLarge
    version, measured = uuid4(), MeasuredBody(content, permission.max_bytes, size)
    await s3.context.parts.write(version, measured.chunks())
    etag: str = measured.metadata("", "")["eTag"]

    async def store() -> None:
        unused: str | None = str(version)
        try:
            async with s3.context.transactions.as_admin() as connection:
                locked = await multipart_rows.find(connection, upload["id"], *s3.path, lock=True)
                if locked is None:
                    raise NoSuchS3Upload
                others = await multipart_rows.parts(connection, upload["id"])
                sizes = sum(row["size"] for row in others if row["part_number"] != number)
                if sizes + size > permission.max_bytes:
                    raise ObjectTooLarge
                replaced = await multipart_rows.add_part(
                    connection,
                    upload=upload["id"],
                    size=size,
                    number=number,
                    bucket=s3.bucket,
                    key=s3.key,
                    etag=etag,
                    owner=s3.caller.subject,
                    version=str(version),
                )
            unused = replaced
        finally:
            await discard(s3.context.parts, [unused])

    await uninterrupted(store())
    return etag


async def _find(s3: S3Request) -> RowMapping:
    """Find the upload of the request, which is its owner's and the service's alone."""
    async with s3.context.transactions.as_admin() as connection:
        upload = await multipart_rows.find(connection, s3.query["uploadId"], *s3.path)
    is_service = s3.caller.role == SERVICE_ROLE.role
    owner = s3.caller.subject
    if upload is None or not (is_service or (owner is not None and upload["owner_id"] == owner)):
        raise NoSuchS3Upload
    return upload


async def _permission(
    s3: S3Request, metadata: dict[str, Any], user_metadata: dict[str, Any], operation: str
) -> Permission:
    new = _new(s3, metadata, user_metadata, operation)
    return await s3.context.uploader.check(new, content_type=metadata["mimetype"])


def _new(
    s3: S3Request, metadata: dict[str, Any], user_metadata: dict[str, Any], operation: str
) -> NewObject:
    declared = {"mimetype": metadata["mimetype"]}
    return NewObject(s3.caller, s3.path, operation, True, declared, user_metadata)


async def _remove(s3: S3Request, id: str) -> None:
    """Delete an upload, then the bytes of its parts."""
    async with s3.context.transactions.as_admin() as connection:
        versions = await multipart_rows.remove(connection, id)
    await discard(s3.context.parts, versions)


async def _remove_expired(s3: S3Request) -> None:
    seconds = s3.context.settings.tus_url_expiry_ms / 1000
    async with s3.context.transactions.as_admin() as connection:
        rows = await multipart_rows.expired(connection, seconds)
    for row in rows:
        await _remove(s3, row["id"])


def _wanted_parts(body: bytes) -> list[tuple[int, str]]:
    """Read the numbers and ETags of the parts that a client wants. Raises MalformedXml."""
    wanted = []
    try:
        document = parse(body)
        for part in document.findall("Part"):
            number = (text_of(part, "PartNumber") or "").strip()
            etag = (text_of(part, "ETag") or "").strip().strip('"')
            wanted.append((int(number[:6]), etag))
    except ValueError:
        raise MalformedXml from None
    if document.tag != "CompleteMultipartUpload":
        raise MalformedXml
    return wanted


def _chosen(wanted: list[tuple[int, str]], stored: dict[int, RowMapping]) -> list[RowMapping]:
    """Return the rows of the wanted parts.

    Raises:
        MalformedXml: there are none.
        InvalidPartOrder, InvalidPart, EntityTooSmall: they are not the ones that were uploaded.
    """
    if not wanted:
        raise MalformedXml
    numbers = [number for number, _ in wanted]
    if any(number >= following for number, following in pairwise(numbers)):
        raise InvalidPartOrder
    for number, etag in wanted:
        if number not in stored or stored[number]["etag"].strip('"') != etag:
            raise InvalidPart
    parts = [stored[number] for number in numbers]
    if any(part["size"] < MIN_PART_BYTES for part in parts[:-1]):
        raise EntityTooSmall
    return parts


def _copied_range(header: str | None, size: int) -> tuple[int, int] | None:
    if header is None:
        return None
    match = _RANGE.fullmatch(header)
    if match is None or not int(match[1]) <= int(match[2]) < size:
        raise InvalidCopiedRange
    return int(match[1]), int(match[2])
