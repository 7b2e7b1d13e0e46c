"""The body of an upload: its bytes, measured as they come, and what the caller declares of them."""

import base64
import binascii
import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Protocol

import orjson
from starlette.requests import Request

from amphibase.blobs.multipart import UploadForm
from amphibase.column_defaults import utc_now
from amphibase.errors import IncompleteUpload
from amphibase.gateway.storage.errors import EntityTooLarge, MalformedRequest
from amphibase.gateway.storage.limits import (
    MAX_USER_METADATA_BYTES,
    cache_control_of,
    check_content_type,
    checked_cache_control,
    checked_user_metadata,
)
from amphibase.gateway.storage.responses import timestamp
from amphibase.gateway.storage.robots import check_robots_tag

ANY_TYPE = "application/octet-stream"
FORM_OVERHEAD_BYTES = MAX_USER_METADATA_BYTES + 64 * 1024
MAX_LENGTH_DIGITS = 18

_STANDARD_ALPHABET = str.maketrans("-_", "+/")


class NotJson(MalformedRequest):
    """Raised where metadata is not JSON at all."""


class UploadBody(Protocol):
    """An object that is being sent. The fields of a form may follow its bytes: what depends on them
    is complete when the bytes have ended."""

    content_type: str
    content_length: int | None
    """How many bytes the object has, where the caller declares that."""

    minimum_bytes: int | None
    """How many bytes it has at least, as far as the request shows."""

    robots_tag: str | None
    """What crawlers may show of it, where the caller says so."""

    def chunks(self) -> AsyncIterable[bytes]:
        """Return the bytes, once."""

    @property
    def cache_control(self) -> str: ...

    @property
    def user_metadata(self) -> dict[str, Any]: ...


class RawBody:
    """An object whose bytes come as they are, and of which everything is known before them."""

    def __init__(
        self,
        content: AsyncIterable[bytes],
        content_type: str,
        cache_control: str,
        user_metadata: dict[str, Any] | None,
        content_length: int | None,
        robots_tag: str | None = None,
    ) -> None:
        self._content = content
        self.content_type = content_type
        self.cache_control = cache_control
        self.user_metadata = user_metadata or {}
        self.content_length = self.minimum_bytes = content_length
        self.robots_tag = robots_tag

    def chunks(self) -> AsyncIterable[bytes]:
        return self._content


class FormBody:
    """An object in a form (`multipart/form-data`), as browsers send it.

    Args:
        form: read up to the object's bytes.
        request_bytes: the length of the whole form, where it is known.
    """

    content_length: int | None = None

    def __init__(self, form: UploadForm, request_bytes: int | None, robots_tag: str | None) -> None:
        self._form = form
        self.robots_tag = robots_tag
        self.content_type = form.values.get("contentType") or form.content_type or ANY_TYPE
        check_content_type(self.content_type)
        self.minimum_bytes = (
            None if request_bytes is None else max(0, request_bytes - FORM_OVERHEAD_BYTES)
        )

    def chunks(self) -> AsyncIterable[bytes]:
        return self._form.file()

    @property
    def cache_control(self) -> str:
        return cache_control_of(self._form.values.get("cacheControl"))

    @property
    def user_metadata(self) -> dict[str, Any]:
        values = self._form.values
        return readable_metadata(values.get("metadata", values.get("userMetadata"))) or {}


async def read_upload(request: Request) -> UploadBody:
    """Read a request up to the object's bytes: a form, or the object itself.

    Raises:
        StorageError, InvalidRequest: it is neither.
    """
    text = request.headers.get("content-length", "")
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS
    length = int(text) if is_number else None
    content_type = request.headers.get("content-type") or ANY_TYPE
    if robots_tag := request.headers.get("x-robots-tag"):
        check_robots_tag(robots_tag)
    if content_type.lower().startswith("multipart/form-data"):
        form = UploadForm(
            request,
            ("cacheControl", "contentType", "metadata", "userMetadata"),
            file=None,
            max_field_bytes=MAX_USER_METADATA_BYTES,
        )
        await form.find_file()
        return FormBody(form, length, robots_tag)
    check_content_type(content_type)
    return RawBody(
        request.stream(),
        content_type,
        checked_cache_control(request.headers.get("cache-control")),
        user_metadata_of(request),
        length,
        robots_tag,
    )


def user_metadata_of(request: Request) -> dict[str, Any] | None:
    """Return what the header `x-metadata` holds; nothing, as upstream, where that is not JSON in
    Base64. Raises StorageError."""
    header = request.headers.get("x-metadata", "").translate(_STANDARD_ALPHABET).rstrip("=")
    try:
        text = base64.b64decode(header + "=" * (-len(header) % 4)).decode()
    except (binascii.Error, ValueError):
        return None
    return readable_metadata(text)


def readable_metadata(text: str | None) -> dict[str, Any] | None:
    """Read an object in JSON; None, as upstream, where the text is none. Raises StorageError."""
    try:
        return parse_user_metadata(text)
    except NotJson:
        return None


def parse_user_metadata(text: str | None) -> dict[str, Any] | None:
    """Read an object in JSON. Raises StorageError."""
    if not text:
        return None
    if len(text) > MAX_USER_METADATA_BYTES:
        raise EntityTooLarge("The metadata is too large")
    if "\\u0000" in text:  # which no JSON of the database can hold
        raise MalformedRequest("The metadata must not hold the character NUL")
    try:
        return checked_user_metadata(orjson.loads(text))
    except (ValueError, RecursionError):
        raise NotJson("The metadata is not valid JSON") from None


class MeasuredBody:
    """Bytes on their way to the store: counted, hashed, and cut off at the limit.

    Args:
        limit: the most that may come.
        size: how many have to come, where that is known.
    """

    def __init__(self, content: AsyncIterable[bytes], limit: int, size: int | None = None) -> None:
        self._content = content
        self._limit = limit
        self._expected = size
        self._digest = hashlib.md5(usedforsecurity=False)
        self._size = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pass the bytes on. Raises EntityTooLarge, IncompleteUpload."""
        async for chunk in self._content:
            self._size += len(chunk)
            if self._size > self._limit:
                raise EntityTooLarge
            self._digest.update(chunk)
            yield chunk
        if self._expected is not None and self._size != self._expected:
            raise IncompleteUpload

    def metadata(self, content_type: str, cache_control: str) -> dict[str, Any]:
        """Return the column `metadata` as Supabase writes it, once all bytes have passed."""
        return {
            "eTag": f'"{self._digest.hexdigest()}"',
            "size": self._size,
            "mimetype": content_type,
            "cacheControl": cache_control,
            "lastModified": timestamp(utc_now()),
            "contentLength": self._size,
            "httpStatusCode": 200,
        }


def declared_metadata(content_type: str, content_length: int | None) -> dict[str, Any]:
    """Return what the column `metadata` holds before any byte has come, for policies."""
    metadata: dict[str, Any] = {"mimetype": content_type}
    if content_length is not None:
        metadata["contentLength"] = content_length
    return metadata
