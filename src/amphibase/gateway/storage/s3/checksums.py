"""Digests that a client sends with an object, to be compared with what has come."""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import google_crc32c

from amphibase.gateway.storage.s3.crc64 import Crc64Nvme
from amphibase.gateway.storage.s3.errors import BadDigest, InvalidDigest

PREFIX = "x-amz-checksum-"


class Digest(Protocol):
    """What `hashlib` returns."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """The checksum of zlib, with the methods of a hash."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class Crc32c:
    """Castagnoli's checksum (RFC 3720, appendix B.4), with the methods of a hash."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = google_crc32c.extend(self._value, data)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


DIGESTS: dict[str, tuple[int, Callable[[], Digest]]] = {
    "content-md5": (16, lambda: hashlib.md5(usedforsecurity=False)),
    "x-amz-checksum-crc32": (4, Crc32),
    "x-amz-checksum-crc32c": (4, Crc32c),
    "x-amz-checksum-crc64nvme": (8, Crc64Nvme),
    "x-amz-checksum-sha1": (20, lambda: hashlib.sha1(usedforsecurity=False)),
    "x-amz-checksum-sha256": (32, hashlib.sha256),
}
"""By header: how many bytes it has, and how it is made."""


class Checksums:
    """The digests of one body.

    Args:
        headers: of the request.
        trailers: the names of the headers that follow its body.

    Raises:
        InvalidDigest: a header is no digest in Base64.
    """

    def __init__(self, headers: Mapping[str, str], trailers: frozenset[str] = frozenset()) -> None:
        self._expected = {
            name: _decoded(name, headers[name]) for name in DIGESTS if name in headers
        }
        names = self._expected.keys() | (trailers & DIGESTS.keys())
        self._digests = {name: DIGESTS[name][1]() for name in names}

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        for digest in self._digests.values():
            digest.update(data)

    def check(self, trailers: Mapping[str, str]) -> None:
        """Compare, once all bytes have come.

        Raises:
            BadDigest: other bytes have come than were digested.
            InvalidDigest: a trailer is no digest.
        """
        expected = dict(self._expected)
        expected |= {name: _decoded(name, trailers[name]) for name in DIGESTS if name in trailers}
        for name, value in expected.items():
            if name in self._digests and self._digests[name].digest() != value:
                raise BadDigest(f"{name} did not match the bytes that were received")

    @property
    def headers(self) -> dict[str, str]:
        """What a response repeats of them."""
        return {
            name: base64.b64encode(digest.digest()).decode()
            for name, digest in self._digests.items()
            if name.startswith(PREFIX)
        }


def _decoded(name: str, text: str) -> bytes:
    try:
        value = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidDigest from None
    if len(value) != DIGESTS[name][0]:
        raise InvalidDigest
    return value
