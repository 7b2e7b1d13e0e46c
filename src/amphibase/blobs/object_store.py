"""Blobs in an object store: S3 and services with its protocol, Google Cloud Storage, Azure."""

import errno
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from uuid import UUID

from amphibase.blobs.base import CHUNK_BYTES, FOLDERS, Blob, BlobMissing, key_of, version_of
from amphibase.errors import ConfigurationError, StorageFull, Unavailable
from amphibase.redaction import redacted_logger

try:
    import obstore
    from obstore import exceptions
    from obstore.store import from_url
except ImportError as error:
    raise ConfigurationError(
        "FILES_URL: object stores need their client, pip install 'amphibase[s3]'"
    ) from error

logger = redacted_logger("amphibase.blobs")

PART_BYTES = 8 * 1024 * 1024
"""Larger blobs are sent in parts of this size (S3 takes 10,000 of at least 5 MiB)."""

PARTS_AT_ONCE = 2
RETRY_SECONDS = 10
TIMEOUT_SECONDS = 30


class ObjectStoreBlobs:
    """Blobs in a bucket, reached through obstore.

    Args:
        url: `s3://bucket/folder`, `gs://…` or `az://account/container/…`; what the client needs to
            know is read from its usual environment variables (`AWS_ACCESS_KEY_ID` …) or from the
            query: `?endpoint=https://…&region=…`.

    Raises:
        ConfigurationError: the URL does not name a store; says nothing of the secrets in it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options: Any = dict(parse_qsl(parts.query))
        try:
            self._store = from_url(
                urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
                config=options,
                client_options={
                    "allow_http": options.get("endpoint", "").startswith("http://"),
                    "timeout": timedelta(seconds=TIMEOUT_SECONDS),
                    "connect_timeout": timedelta(seconds=5),
                },
                retry_config={
                    "max_retries": 3,
                    "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                },
            )
        except (exceptions.BaseError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"FILES_URL: {parts.scheme}://{parts.netloc} is not a store that can be used"
            ) from error

    async def write(self, version: UUID, content: AsyncIterable[bytes]) -> int:
        source = _Source(content)
        try:
            with _translated():
                # It sends parts when there are more bytes than one, and takes them back on errors.
                await obstore.put_async(
                    self._store,
                    key_of(version),
                    source.parts(),
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )
        except BaseException:
            if source.failure is not None:
                raise source.failure from None
            raise
        if source.failure is not None:
            raise source.failure
        return source.size

    async def read(self, version: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        if start == stop:
            return _nothing()
        with _translated():
            result = await obstore.get_async(
                self._store, key_of(version), options={"range": (start, stop)}
            )
        return _chunks(result.stream(CHUNK_BYTES))

    async def copy(self, version: UUID, to: UUID) -> None:
        with _translated():
            await obstore.copy_async(self._store, key_of(version), key_of(to))

    async def delete(self, key: str) -> None:
        try:
            with _translated():
                await obstore.delete_async(self._store, key)
        except BlobMissing:
            return

    async def exists(self, version: UUID) -> bool:
        try:
            with _translated():
                await obstore.head_async(self._store, key_of(version))
        except BlobMissing:
            return False
        return True

    async def all(self) -> AsyncIterator[Blob]:
        # Folder by folder: a key of others with an empty segment (`a//b`), which S3 allows and
        # obstore (0.12) does not read, ends a listing with an error.
        for folder in FOLDERS:
            try:
                async for item in self._list(folder, chunk_size=1000):
                    key = item["path"]
                    version = version_of(key)
                    if version is not None:
                        yield Blob(key, version, item["size"], item["last_modified"])
            except exceptions.InvalidPathError:
                logger.warning(
                    "The folder %s/ of FILES_URL was not listed wholly: it has a key with an empty "
                    "segment (//), which is not of Amphibase; delete that object",
                    folder,
                )

    async def check(self) -> None:
        with suppress(exceptions.InvalidPathError):  # of others; the store was reached
            async for _ in self._list("00", chunk_size=1):
                return

    async def _list(self, folder: str, *, chunk_size: int) -> AsyncIterator[Any]:
        with _translated():
            async for page in obstore.list(self._store, folder, chunk_size=chunk_size):
                for item in page:
                    yield item


class _Source:
    """The sender's bytes; keeps the error that they ended with, which the store's client hides."""

    def __init__(self, content: AsyncIterable[bytes]) -> None:
        self._content = content
        self.size = 0
        self.failure: BaseException | None = None

    async def parts(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._content:
                self.size += len(chunk)
                yield chunk
        except BaseException as error:
            self.failure = error
            raise


async def _chunks(stream: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    with _translated():
        async for chunk in stream:
            yield bytes(chunk)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError):
        raise BlobMissing from None
    except exceptions.InvalidPathError:
        raise
    except exceptions.BaseError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
            raise StorageFull from error
        raise Unavailable("The store of the files cannot be reached just now") from error
