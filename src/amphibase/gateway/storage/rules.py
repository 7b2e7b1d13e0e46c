"""What buckets, files and their types may be called, and how large they may be."""

import re
from collections.abc import Sequence
from typing import Any

from amphibase.blobs.types import is_allowed
from amphibase.gateway.storage.errors import (
    StorageError,
    invalid_key,
    malformed,
    too_large,
    wrong_type,
)

MAX_BUCKET_CHARACTERS = 100
MAX_KEY_CHARACTERS = 1024
MAX_USER_METADATA_BYTES = 1024 * 1024
MAX_DEPTH = 100

# The characters that are safe in a key of S3, and those that it takes with care
# (Amazon S3 User Guide, "Naming Amazon S3 objects").
_KEY = re.compile(r"[\w/!\-.*'() &$@=;:+,?]+", re.ASCII)
_BUCKET = re.compile(r"[\w!\-.*'() &$@=;:+,?]+", re.ASCII)

_TYPE = re.compile(r"[\w+.-]+/(?:\*|[\w+.-]+(?:;\s*charset=[\w-]+)?)", re.ASCII)
_HEADER = re.compile(r"[\x20-\x7e]{1,255}")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(GB|MB|KB|B)?", re.IGNORECASE)
_UNITS = {"gb": 10**9, "mb": 10**6, "kb": 10**3, "b": 1}


def check_bucket_name(name: str) -> None:
    """Raises StorageError for what no bucket may be called."""
    if len(name) > MAX_BUCKET_CHARACTERS or not _BUCKET.fullmatch(name):
        raise StorageError(400, "Invalid Input", "Bucket name invalid", "InvalidBucketName")


def check_key(key: str) -> None:
    """Raises StorageError for what no file may be called."""
    is_one = len(key) <= MAX_KEY_CHARACTERS and _KEY.fullmatch(key)
    if not is_one or any(part in (".", "..") for part in key.split("/")):
        raise invalid_key(key)


def check_type(kind: str, allowed: Sequence[str] | None) -> None:
    """Raises StorageError unless a bucket takes files of this type."""
    plain = kind.partition(";")[0].strip().lower()
    patterns = tuple(pattern.partition(";")[0].strip().lower() for pattern in allowed or ())
    # It becomes a header whenever the file is read.
    if not _HEADER.fullmatch(kind) or not is_allowed(plain, patterns):
        raise wrong_type(kind)


def check_allowed_types(allowed: Sequence[str]) -> None:
    """Raises StorageError for what is no type, nor all types of a kind such as `image/*`."""
    for kind in allowed:
        if not _TYPE.fullmatch(kind):
            raise wrong_type(kind)


def limit_of(given: int | str | None, most: int) -> int | None:
    """A bucket's limit in bytes, which may be written as 20MB. Raises StorageError."""
    if given is None or given == "":
        return None
    found = _SIZE.fullmatch(str(given))
    if found is None:
        raise StorageError(
            400,
            "InvalidRequest",
            "Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B",
        )
    size = int(float(found[1]) * _UNITS[(found[2] or "b").lower()])
    if size > most:
        raise too_large()
    return size


def cache_control_of(seconds: str | None) -> str:
    """What the header says for the seconds that a form or an upload in parts names."""
    return f"max-age={seconds}" if seconds and seconds.isascii() and seconds.isdigit() else NO_CACHE


NO_CACHE = "no-cache"


def checked_cache_control(header: str | None) -> str:
    """The header as it is given. Raises StorageError for what can be none."""
    if not header:
        return NO_CACHE
    if not _HEADER.fullmatch(header):
        raise malformed("headers/cache-control must be a header")
    return header


def checked_user_metadata(value: Any) -> dict[str, Any] | None:
    """What a user wants to be kept with a file: an object, or nothing. Raises StorageError."""
    if value is not None and not isinstance(value, dict):
        raise StorageError(400, "InvalidRequest", "The metadata must be an object")
    if _is_deep(value):
        raise StorageError(400, "InvalidRequest", f"The metadata has over {MAX_DEPTH} levels")
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
