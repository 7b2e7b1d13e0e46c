"""Limits of buckets and objects: their names, types, sizes and metadata."""

import re
from collections.abc import Sequence
from typing import Any

from amphibase.blobs.types import is_allowed
from amphibase.gateway.storage.errors import (
    EntityTooLarge,
    InvalidBucketName,
    InvalidContentType,
    InvalidKey,
    InvalidMimeType,
    InvalidStorageRequest,
    MalformedRequest,
)

MAX_BUCKET_CHARACTERS = 100
RESERVED_ENDING = "--iceberg"
"""How the names of buckets for tables end, which this Storage does not have."""

MAX_KEY_CHARACTERS = 1024
MAX_USER_METADATA_BYTES = 1024 * 1024
MAX_POSITIONS = 10_000
"""Of metadata that is no object, each of which becomes a name: many times their size."""

MAX_DEPTH = 100

# The characters that are safe in a key of S3, and those that it takes with care
# (Amazon S3 User Guide, "Naming Amazon S3 objects").
_KEY = re.compile(r"[\w/!\-.*'() &$@=;:+,?]+", re.ASCII)
_BUCKET = re.compile(r"[\w!\-.*'() &$@=;:+,?]+", re.ASCII)

_TYPE = re.compile(r"\*|\*/\*|[\w+.-]+/(?:\*|[\w+.-]+(?:;\s*charset=[\w-]+)?)", re.ASCII)
_CONTENT_TYPE = re.compile(r"\s*[^\s/;]+/[^\s/;]+\s*(?:;|$)")
_HEADER = re.compile(r"[\x20-\x7e]{1,255}")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(GB|MB|KB|B)?", re.IGNORECASE)
_UNITS = {"gb": 10**9, "mb": 10**6, "kb": 10**3, "b": 1}


def check_bucket_name(name: str) -> None:
    """Raise InvalidBucketName for what no bucket can be called."""
    if len(name) > MAX_BUCKET_CHARACTERS or not _BUCKET.fullmatch(name):
        raise InvalidBucketName


def check_new_bucket(name: str) -> None:
    """Raise InvalidBucketName for what no new bucket can be called."""
    check_bucket_name(name)
    if name != name.strip() or name.endswith(RESERVED_ENDING):
        raise InvalidBucketName


def check_key(key: str) -> None:
    """Raise InvalidKey for what no object can be called."""
    is_one = len(key) <= MAX_KEY_CHARACTERS and _KEY.fullmatch(key)
    if not is_one or any(part in (".", "..") for part in key.split("/")):
        raise InvalidKey(key)


def check_type(kind: str, allowed: Sequence[str] | None) -> None:
    """Raise InvalidMimeType unless a bucket takes objects of this type."""
    # Letter by letter, as upstream: `IMAGE/PNG` is not among `image/png`.
    plain = kind.partition(";")[0].strip()
    patterns = tuple(pattern.partition(";")[0].strip() for pattern in allowed or ())
    # It becomes a header whenever the file is read.
    if not _HEADER.fullmatch(kind) or not ("*" in patterns or is_allowed(plain, patterns)):
        raise InvalidMimeType(kind)


def check_content_type(header: str) -> None:
    """Raise InvalidContentType for what is not written as a type."""
    if not _HEADER.fullmatch(header) or not _CONTENT_TYPE.match(header):
        raise InvalidContentType


def check_allowed_types(allowed: Sequence[str]) -> None:
    """Raise InvalidMimeType for what is no type, nor all types of a kind such as `image/*`."""
    for kind in allowed:
        if not _TYPE.fullmatch(kind):
            raise InvalidMimeType(kind)


def parse_size_limit(text: int | str | None, most: int) -> int | None:
    """Return a bucket's limit in bytes, which may be written as 20MB. Raises StorageError."""
    if text is None or text == "":
        return None
    match = _SIZE.fullmatch(str(text))
    if match is None:
        raise InvalidStorageRequest("Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B")
    size = int(float(match[1]) * _UNITS[(match[2] or "b").lower()])
    if size > most:
        raise EntityTooLarge
    return size


def cache_control_of(seconds: str | None) -> str:
    """Return the header for the seconds that a form or a resumable upload names."""
    return f"max-age={seconds}" if seconds and _HEADER.fullmatch(seconds) else NO_CACHE


NO_CACHE = "no-cache"


def checked_cache_control(header: str | None) -> str:
    """Return the header. Raises MalformedRequest for what cannot be one."""
    if not header:
        return NO_CACHE
    if not _HEADER.fullmatch(header):
        raise MalformedRequest("headers/cache-control must be a header")
    return header


def checked_user_metadata(value: Any) -> dict[str, Any]:
    """Return the metadata that a caller sends with an object.

    What is no object becomes one as upstream makes it: a list, or the letters of a text, by their
    positions; anything else an empty one.

    Raises:
        EntityTooLarge, InvalidStorageRequest: they are too long, or nested too deep.
    """
    if isinstance(value, list | str):
        if len(value) > MAX_POSITIONS:
            raise EntityTooLarge("The metadata is too large")
        value = {str(position): each for position, each in enumerate(value)}
    if not isinstance(value, dict):
        return {}
    if _is_deep(value):
        raise InvalidStorageRequest(f"The metadata has over {MAX_DEPTH} levels")
    return value


def _is_deep(value: Any) -> bool:
    layer = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in layer:
            if isinstance(each, dict | list):
                below += each.values() if isinstance(each, dict) else each
        layer = below
    return bool(layer)
