"""Objects by the S3 protocol."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from sqlalchemy import RowMapping
from starlette.responses import Response

from amphibase.backend.files import ByteRange, OpenFile
from amphibase.blobs.download import respond
from amphibase.gateway.storage import responses
from amphibase.gateway.storage.errors import AccessDenied, KeyAlreadyExists, NoSuchKey
from amphibase.gateway.storage.limits import checked_cache_control
from amphibase.gateway.storage.object_rows import ObjectPath, type_of
from amphibase.gateway.storage.s3.errors import (
    ConditionNotMet,
    InvalidArgument,
    MalformedXml,
    RequestDenied,
)
from amphibase.gateway.storage.s3.request import META, S3Request
from amphibase.gateway.storage.s3.xml import (
    MAX_BODY_BYTES,
    Value,
    parse,
    text_of,
    xml_response,
)
from amphibase.gateway.storage.upload_body import ANY_TYPE, RawBody, declared_metadata
from amphibase.gateway.storage.uploader import NewObject

MAX_DELETED = 1000
GET_OPERATIONS = {"GET": "storage.s3.object.get", "HEAD": "storage.s3.object.info"}
MISSING_META = "x-amz-missing-meta"
"""How much of an object's metadata no header can hold."""

_NAME = re.compile(r"[!#$%&'*+.^`|~\w-]+", re.ASCII)
RESPONSE_HEADERS = {
    "response-content-type": "Content-Type",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-cache-control": "Cache-Control",
    "response-expires": "Expires",
}
"""By parameter of the query string, the header that it replaces in a response with an object."""


async def put(s3: S3Request) -> Response:
    """PutObject."""
    operation = "storage.s3.upload"
    payload = s3.payload()
    content_type = s3.headers.get("content-type") or ANY_TYPE
    body = RawBody(
        payload.chunks(),
        content_type,
        checked_cache_control(s3.headers.get("cache-control")),
        s3.user_metadata(),
        payload.size,
    )
    metadata = declared_metadata(content_type, payload.size)
    # `If-None-Match: *` stores it only where there is none.
    overwrite = s3.headers.get("if-none-match") != "*"
    new = NewObject(s3.caller, s3.path, operation, overwrite, metadata, body.user_metadata)
    try:
        await s3.context.uploader.upload(new, body, operation, size=payload.size)
    except KeyAlreadyExists:
        raise ConditionNotMet from None
    row = await s3.context.objects.find(None, s3.path, operation)
    return Response(headers={"ETag": etag_of(row), **payload.checksums.headers})


async def get(s3: S3Request) -> Response:
    """GetObject and HeadObject."""
    operation = GET_OPERATIONS[s3.http.method]
    row = await s3.context.objects.find(s3.caller, s3.path, operation)
    _check_conditions(s3, row)

    def headers(row: RowMapping) -> dict[str, str]:
        shown = responses.headers_of(row)
        shown["Content-Type"] = _header(type_of(row)) or ANY_TYPE
        shown |= {
            header: _header(value)
            for name, header in RESPONSE_HEADERS.items()
            if (value := s3.query.get(name))
        }
        return shown | _meta_headers(row)

    async def open(part: ByteRange | None) -> tuple[OpenFile, Mapping[str, str]]:
        opened = await s3.context.objects.open(s3.caller, row, part, operation)
        current, start, stop, chunks = opened
        return OpenFile(responses.file_of(current), start, stop, chunks), headers(current)

    file, modified_at = responses.file_of(row), responses.modified_at(row)
    return await respond(s3.http, file, headers(row), open, modified_at=modified_at)


async def copy(s3: S3Request) -> Response:
    """CopyObject."""
    operation, source = "storage.s3.object.copy", copy_source(s3)
    row = await s3.context.objects.find(s3.caller, source, operation)
    check_source(s3, row)
    replaces = s3.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    changes: dict[str, Any] = {}
    if replaces:
        changes["mimetype"] = s3.headers.get("content-type") or ANY_TYPE
        changes["cacheControl"] = checked_cache_control(s3.headers.get("cache-control"))
    stored = await s3.context.objects.copy(
        s3.caller,
        source,
        s3.path,
        operation,
        overwrite=True,
        changes=changes,
        user_metadata=s3.user_metadata() if replaces else None,
        keeps_metadata=not replaces,
    )
    fields = [
        ("LastModified", responses.timestamp(stored["updated_at"])),
        ("ETag", etag_of(stored)),
    ]
    return xml_response("CopyObjectResult", fields)


async def delete(s3: S3Request) -> Response:
    """DeleteObject: 204 also where there is none."""
    operation, names = "storage.s3.object.delete", [s3.key]
    deletion = await s3.context.objects.delete(s3.caller, s3.bucket, names, operation)
    if deletion.kept:
        raise RequestDenied
    if not deletion.rows:
        await s3.context.buckets.find(s3.context.service(s3.http), s3.bucket, operation)
    return Response(status_code=204)


async def delete_many(s3: S3Request) -> Response:
    """DeleteObjects."""
    try:
        document = parse(await s3.payload().whole(MAX_BODY_BYTES))
    except ValueError:
        raise MalformedXml from None
    keys = [text_of(each, "Key") for each in document.findall("Object")]
    names = [key for key in keys if key]
    if document.tag != "Delete" or not names or len(names) > MAX_DELETED or len(names) < len(keys):
        raise MalformedXml
    operation = "storage.s3.object.delete_many"
    await s3.context.buckets.find(s3.context.service(s3.http), s3.bucket, operation)
    kept = (await s3.context.objects.delete(s3.caller, s3.bucket, names, operation)).kept
    error = [("Code", AccessDenied.code), ("Message", "Access Denied")]
    fields: list[tuple[str, Value]] = []
    if (text_of(document, "Quiet") or "").strip() != "true":
        fields += [("Deleted", [("Key", name)]) for name in names if name not in kept]
    fields += [("Error", [("Key", name), *error]) for name in names if name in kept]
    return xml_response("DeleteResult", fields)


async def tagging(s3: S3Request) -> Response:
    """GetObjectTagging: objects have no tags."""
    await s3.context.objects.find(s3.caller, s3.path, "storage.s3.object.get_tagging")
    return xml_response("Tagging", [("TagSet", [])])


def copy_source(s3: S3Request) -> ObjectPath:
    """Return the object that a request copies. Raises InvalidArgument, NoSuchKey."""
    text = unquote(s3.headers["x-amz-copy-source"].partition("?")[0]).removeprefix("/")
    bucket, slash, key = text.partition("/")
    if not (bucket and slash):
        raise InvalidArgument("x-amz-copy-source must be written as bucket/key")
    if not key:
        raise NoSuchKey
    return bucket, key


def check_source(s3: S3Request, row: RowMapping) -> None:
    """Check the conditions on the object that is copied. Raises ConditionNotMet."""
    prefix = "x-amz-copy-source-"
    _check(
        row,
        {
            name.removeprefix(prefix): value
            for name, value in s3.headers.items()
            if name.startswith(prefix)
        },
        also_none_match=True,
    )


def _check_conditions(s3: S3Request, row: RowMapping) -> None:
    _check(row, s3.headers)


def _check(row: RowMapping, headers: Mapping[str, str], *, also_none_match: bool = False) -> None:
    # RFC 9110, section 13.2.2; what leads to 304 is seen by `respond`.
    tag, modified = etag_of(row), responses.modified_at(row)
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is not None:
        is_met = match == "*" or tag in _tags(match)
    else:
        until = _time(headers.get("if-unmodified-since"))
        is_met = until is None or modified <= until
    if is_met and also_none_match:
        if none_match is not None:
            is_met = none_match != "*" and tag not in _tags(none_match)
        elif since := _time(headers.get("if-modified-since")):
            is_met = modified > since
    if not is_met:
        raise ConditionNotMet


def _tags(header: str) -> set[str]:
    return {f'"{tag.strip().strip(chr(34))}"' for tag in header.split(",")}


def _time(header: str | None) -> datetime | None:
    try:
        return None if header is None else parsedate_to_datetime(header).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def etag_of(row: RowMapping) -> str:
    """Return the ETag of an object, in quotes."""
    return f'"{responses.file_of(row).etag}"'


def _meta_headers(row: RowMapping) -> dict[str, str]:
    metadata = row["user_metadata"]
    if not isinstance(metadata, dict):
        return {}
    shown = {
        META + name: value
        for name, value in metadata.items()
        if isinstance(value, str) and _header(value) == value and _NAME.fullmatch(name)
    }
    missing = len(metadata) - len(shown)
    return {**shown, MISSING_META: str(missing)} if missing else shown


def _header(value: str) -> str:
    """Return a value as a header may hold it: without what would end it."""
    return "".join(letter for letter in value if letter.isascii() and letter.isprintable())
