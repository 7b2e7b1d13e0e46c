"""The bytes of a signed request: as they are, or in signed chunks with trailing headers
(Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring
Payload in Multiple Chunks")."""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request

from amphibase.gateway.storage.s3.checksums import Checksums
from amphibase.gateway.storage.s3.errors import (
    ContentSha256Mismatch,
    IncompleteBody,
    InvalidS3Request,
    MissingContentLength,
    NotImplementedByStorage,
    SignatureMismatch,
)
from amphibase.gateway.storage.s3.signature import UNSIGNED_PAYLOAD, SigningKey, check_signature

SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_AND_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_AND_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
CHUNKED = {SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER, UNSIGNED_CHUNKS_AND_TRAILER}

EMPTY_DIGEST: Final = hashlib.sha256().hexdigest()
MAX_LINE_BYTES = 1024
MAX_TRAILERS = 8

_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})(?:;chunk-signature=([0-9a-f]{64}))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class SignedPayload:
    """The body of a request, verified as it is read.

    Args:
        key: that signed the request.
        seed: the request's signature, which the first chunk's follows.
        kind: what `x-amz-content-sha256` says.

    Attributes:
        size: how many bytes the object has.
        checksums: of its bytes; checked at their end.

    Raises:
        S3Error: it is of a kind that is not known, or without a length.
    """

    def __init__(self, request: Request, key: SigningKey, seed: str, kind: str) -> None:
        if kind not in CHUNKED and kind != UNSIGNED_PAYLOAD and not _SHA256.fullmatch(kind):
            raise NotImplementedByStorage(f"x-amz-content-sha256: {kind} is not taken")
        is_chunked = kind in CHUNKED
        length = request.headers.get(
            "x-amz-decoded-content-length" if is_chunked else "content-length", ""
        )
        if not _LENGTH.fullmatch(length):
            raise MissingContentLength
        self.size = int(length)
        trailers = request.headers.get("x-amz-trailer", "").lower() if is_chunked else ""
        self._trailer_names = frozenset(name.strip() for name in trailers.split(",") if name)
        self.checksums = Checksums(request.headers, self._trailer_names)
        self._lines = _Lines(request.stream())
        self._key = key
        self._previous = seed
        self._kind = kind
        self._trailers: dict[str, str] = {}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the object's bytes. Raises S3Error at the end of what is not as it was signed."""
        received = 0
        content = self._chunked() if self._kind in CHUNKED else self._plain()
        async for data in content:
            received += len(data)
            if received > self.size:
                raise IncompleteBody
            self.checksums.update(data)
            yield data
        if received != self.size:
            raise IncompleteBody
        self.checksums.check(self._trailers)

    async def whole(self, limit: int) -> bytes:
        """Return all bytes. Raises S3Error: they are too many, or others were signed."""
        if self.size > limit:
            raise InvalidS3Request(f"The body must have at most {limit} bytes")
        return b"".join([data async for data in self.chunks()])

    async def _plain(self) -> AsyncIterator[bytes]:
        digest = hashlib.sha256()
        is_signed = self._kind != UNSIGNED_PAYLOAD
        async for data in self._lines.rest():
            if is_signed:
                digest.update(data)
            yield data
        if is_signed and digest.hexdigest() != self._kind:
            raise ContentSha256Mismatch

    async def _chunked(self) -> AsyncIterator[bytes]:
        is_signed = self._kind != UNSIGNED_CHUNKS_AND_TRAILER
        while True:
            match = _CHUNK.fullmatch(await self._lines.line())
            if match is None:
                raise InvalidS3Request("A chunk does not begin with its length")
            size, signature = int(match[1], 16), (match[2] or b"").decode()
            digest = hashlib.sha256()
            async for data in self._lines.take(size):
                if is_signed:
                    digest.update(data)
                yield data
            if is_signed:
                self._check_chunk(signature, digest.hexdigest())
            if size == 0:
                break
            if await self._lines.line():
                raise InvalidS3Request("A chunk is longer than it says")
        await self._read_trailers()

    def _check_chunk(self, signature: str, digest: str) -> None:
        key = self._key
        text = (key.timestamp, key.scope, self._previous, EMPTY_DIGEST, digest)
        check_signature(signature, key.sign("\n".join(("AWS4-HMAC-SHA256-PAYLOAD", *text))))
        self._previous = signature

    async def _read_trailers(self) -> None:
        signature = ""
        while line := await self._lines.line(at_end=b""):
            name, _, value = line.decode("latin-1").partition(":")
            if name.strip().lower() == "x-amz-trailer-signature":
                signature = value.strip()
                continue
            self._trailers[name.strip().lower()] = value.strip()
            if len(self._trailers) > MAX_TRAILERS:
                raise InvalidS3Request("The body has too many trailing headers")
        if not self._trailers.keys() >= self._trailer_names:
            raise InvalidS3Request("A header that x-amz-trailer names is missing")
        if self._kind == SIGNED_CHUNKS_AND_TRAILER:
            self._check_trailers(signature)

    def _check_trailers(self, signature: str) -> None:
        key = self._key
        lines = "".join(f"{name}:{value}\n" for name, value in sorted(self._trailers.items()))
        text = (
            key.timestamp,
            key.scope,
            self._previous,
            hashlib.sha256(lines.encode()).hexdigest(),
        )
        if not signature:
            raise SignatureMismatch
        check_signature(signature, key.sign("\n".join(("AWS4-HMAC-SHA256-TRAILER", *text))))


class _Lines:
    """A stream of bytes, read by lines that end with CRLF and by numbers of bytes."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._buffer = b""

    async def line(self, at_end: bytes | None = None) -> bytes:
        """Return the next line, without its end.

        Args:
            at_end: what is returned where the stream has ended; None raises.

        Raises:
            IncompleteBody: the stream has ended.
        """
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise InvalidS3Request("A line in the chunked body is too long")
            data = await anext(self._stream, None)
            if data is None:
                if at_end is not None and not self._buffer:
                    return at_end
                raise IncompleteBody
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def take(self, count: int) -> AsyncIterator[bytes]:
        """Yield so many bytes. Raises IncompleteBody."""
        while count:
            if not self._buffer:
                data = await anext(self._stream, None)
                if data is None:
                    raise IncompleteBody
                self._buffer = data
            taken, self._buffer = self._buffer[:count], self._buffer[count:]
            count -= len(taken)
            if taken:
                yield taken

    async def rest(self) -> AsyncIterator[bytes]:
        """Yield what is left."""
        if self._buffer:
            yield self._buffer
        async for data in self._stream:
            if data:
                yield data
