"""A file that somebody sends: its bytes, counted and hashed as they come, and what is said."""

import base64
import binascii
import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Protocol

import orjson
from starlette.requests import Request

from amphibase.blobs.multipart import UploadForm
from amphibase.errors import IncompleteUpload
from amphibase.gateway.storage.errors import StorageError, malformed, too_large
from amphibase.gateway.storage.rules import (
    MAX_USER_METADATA_BYTES,
    cache_control_of,
    checked_cache_control,
    checked_user_metadata,
)
from amphibase.models import utc_now

ANY = "application/octet-stream"
FORM_OVERHEAD_BYTES = MAX_USER_METADATA_BYTES + 64 * 1024


class Incoming(Protocol):
    """A file that is being sent. What is said of it is complete when its bytes are at their end."""

    content_type: str
    announced: int | None
    """How many bytes will come at least, where that is known."""

    def chunks(self) -> AsyncIterable[bytes]:
        """The bytes, once."""

    @property
    def cache_control(self) -> str: ...

    @property
    def user_metadata(self) -> dict[str, Any] | None: ...


class Whole:
    """A file whose bytes come from anywhere, and of which all is said."""

    def __init__(
        self,
        content: AsyncIterable[bytes],
        content_type: str,
        cache_control: str,
        user_metadata: dict[str, Any] | None,
        announced: int | None,
    ) -> None:
        self._content = content
        self.content_type = content_type
        self.cache_control = cache_control
        self.user_metadata = user_metadata
        self.announced = announced

    def chunks(self) -> AsyncIterable[bytes]:
        return self._content


class InForm:
    """A file in a form (`multipart/form-data`), as browsers send it."""

    def __init__(self, form: UploadForm, announced: int | None) -> None:
        self._form = form
        self.content_type = form.content_type or ANY
        self.announced = announced

    def chunks(self) -> AsyncIterable[bytes]:
        return self._form.file()

    @property
    def cache_control(self) -> str:
        return cache_control_of(self._form.values.get("cacheControl"))

    @property
    def user_metadata(self) -> dict[str, Any] | None:
        return parse_user_metadata(self._form.values.get("metadata"))


async def incoming(request: Request) -> Incoming:
    """The file that a request carries, in a form or as its body. Raises StorageError."""
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
    kind = request.headers.get("content-type") or ANY
    if kind.lower().startswith("multipart/form-data"):
        form = UploadForm(
            request,
            ("cacheControl", "metadata"),
            file=None,
            max_field_bytes=MAX_USER_METADATA_BYTES,
        )
        await form.find_file()
        least = None if announced is None else max(0, announced - FORM_OVERHEAD_BYTES)
        return InForm(form, least)
    return Whole(
        request.stream(),
        kind,
        checked_cache_control(request.headers.get("cache-control")),
        user_metadata_of(request),
        announced,
    )


def user_metadata_of(request: Request) -> dict[str, Any] | None:
    """What the header `x-metadata` holds. Raises StorageError."""
    given = request.headers.get("x-metadata")
    if not given:
        return None
    try:
        text = base64.b64decode(given, validate=True).decode()
    except (binascii.Error, ValueError):
        raise malformed("headers/x-metadata must be JSON in Base64") from None
    return parse_user_metadata(text)


def parse_user_metadata(text: str | None) -> dict[str, Any] | None:
    """An object in JSON. Raises StorageError."""
    if not text:
        return None
    if len(text) > MAX_USER_METADATA_BYTES:
        raise StorageError(413, "Payload too large", "The metadata is too large", "EntityTooLarge")
    if "\\u0000" in text:  # which no JSON of the database can hold
        raise malformed("The metadata must not hold the character NUL")
    try:
        return checked_user_metadata(orjson.loads(text))
    except (ValueError, RecursionError):
        raise malformed("The metadata is not valid JSON") from None


class Measured:
    """Bytes on their way to the store.

    Args:
        limit: the most that may come.
        size: how many have to come, where that is known.
    """

    def __init__(self, content: AsyncIterable[bytes], limit: int, size: int | None = None) -> None:
        self._content = content
        self._limit = limit
        self._expected = size
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes. Raises StorageError, IncompleteUpload."""
        async for chunk in self._content:
            self.size += len(chunk)
            if self.size > self._limit:
                raise too_large()
            self._digest.update(chunk)
            yield chunk
        if self._expected is not None and self.size != self._expected:
            raise IncompleteUpload

    def facts(self, content_type: str, cache_control: str) -> dict[str, Any]:
        """The column `metadata`."""
        return facts(content_type, cache_control, self.size, self._digest.hexdigest())


def facts(content_type: str, cache_control: str, size: int | None, etag: str) -> dict[str, Any]:
    """The column `metadata`, as Supabase writes it."""
    return {
        "eTag": f'"{etag}"',
        "size": size,
        "mimetype": content_type,
        "cacheControl": cache_control,
        "lastModified": moment(),
        "contentLength": size,
        "httpStatusCode": 200,
    }


def moment() -> str:
    """Now, as JavaScript writes it."""
    return utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
