"""Files in a Supabase project: the contract of `backend.Files` over Supabase Storage.

Policies of the project decide who may do what (`files.sql`). Storage's responses do not say whose a
file is, and not always why a request is rejected: both are read by a function that runs as the
caller.
"""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

import httpx

from amphibase.backend import SERVICE, Caller, Capabilities, Page
from amphibase.backend.files import GRACE, ByteRange, File, OpenFile, SignedUrl, Sweep
from amphibase.blobs.access import MISSING, may_read, require_change, require_known
from amphibase.blobs.base import bounds, parse_uuid
from amphibase.errors import (
    AmphibaseError,
    ConfigurationError,
    Conflict,
    Contention,
    Forbidden,
    InvalidSignature,
    NotFound,
    PreconditionFailed,
    Retryable,
    Unavailable,
)
from amphibase.models import utc_now, uuid7
from amphibase.records.cursors import Cursors
from amphibase.supabase.buckets import SupabaseBuckets
from amphibase.supabase.errors import read_json
from amphibase.supabase.object_keys import key_of, path_of
from amphibase.supabase.resumable_upload import PART_BYTES, ResumableUpload
from amphibase.supabase.spool import Spool, spooled
from amphibase.supabase.storage_api import StorageApi, etag_of, object_path

TAKEN = "There is a file with this path already"

ATTEMPTS = 3
"""How often to look again at a file that is replaced before it can be opened."""

UNCERTAIN = (Conflict, NotFound, Retryable)
"""Errors after which a write may have been carried out: a response was lost, and the repeated
request found its own result in the way."""


@dataclass(frozen=True, slots=True)
class _Object:
    """What the function `amphibase_files` says of an object.

    Attributes:
        upload: the mark of the upload that stored it, where that was ours.
    """

    id: str
    key: str
    owner_id: str | None
    size: int
    content_type: str
    etag: str
    upload: str | None
    public: bool
    created_at: str
    updated_at: str


class SupabaseFiles(SupabaseBuckets):
    """The files of a Supabase project; `SupabaseBuckets` has their buckets."""

    def __init__(self, storage: StorageApi, cursors: Cursors, capabilities: Capabilities) -> None:
        super().__init__(storage)
        self._client = storage.client
        self._cursors = cursors
        self._capabilities = capabilities

    async def put(
        self,
        caller: Caller,
        bucket: str,
        path: str,
        content: AsyncIterable[bytes],
        *,
        content_type: str,
        overwrite: bool = True,
    ) -> File:
        require_known(caller)
        key, mark = key_of(path), uuid7()
        options: dict[str, Any] = {
            "content_type": content_type,
            "overwrite": overwrite,
            "mark": mark,
        }
        async with spooled(content) as spool:
            try:
                await self._upload(spool, caller, bucket, key, options)
            except (*UNCERTAIN, Forbidden) as error:
                stored = await self._find(caller, bucket, key)
                if stored is None or stored.upload != str(mark):
                    await self._reject(caller, bucket, key, error)
                return _file(bucket, stored)
        return await self._stored(caller, bucket, key)

    async def stat(self, caller: Caller, bucket: str, path: str) -> File | None:
        found = await self._find(caller, bucket, key_of(path))
        return None if found is None else _file(bucket, found)

    async def open(
        self, caller: Caller, bucket: str, path: str, part: ByteRange | None = None
    ) -> OpenFile:
        key = key_of(path)
        for _ in range(ATTEMPTS):
            found = await self._find(caller, bucket, key)
            if found is None:
                raise NotFound(MISSING)
            file = _file(bucket, found)
            start, stop = bounds(part, file.size)
            stack = AsyncExitStack()
            response = await stack.enter_async_context(
                self._client.stream(
                    "storage",
                    "GET",
                    object_path(bucket, key),
                    caller,
                    headers=_range_headers(start, stop, file.size),
                )
            )
            if etag_of(response) in ("", file.etag):
                chunks = _read(stack, response, stop - start)
                await anext(chunks)  # from here on, its end closes the response
                return OpenFile(file, start, stop, chunks)
            await stack.aclose()  # it was replaced after it was looked at
        raise Contention("The file is being changed; try again")

    async def list(
        self,
        caller: Caller,
        bucket: str,
        prefix: str = "",
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[File]:
        query = f"files {bucket!r} {prefix!r} {caller.role} {caller.user_id}"
        after = "" if cursor is None else self._cursors.read(query, cursor)[0]
        found = await self._objects(caller, bucket, key_of(prefix), after=after, count=limit + 1)
        files = [
            _file(bucket, each)
            for each in found[:limit]
            # Another spelling of a path, which others may store, cannot be opened by that path.
            if key_of(path_of(each.key)) == each.key
        ]
        more = len(found) > limit
        return Page(
            # `=` may begin the code of another character (`object_keys`).
            [file for file in files if file.path.startswith(prefix)],
            self._cursors.write(query, [found[limit - 1].key]) if more else None,
        )

    async def move(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        to_bucket = to_bucket or bucket
        key, to_key = key_of(path), key_of(to_path)
        source = require_change(caller, await self._find(caller, bucket, key))
        try:
            await self._storage.relocate("move", caller, (bucket, key), (to_bucket, to_key))
        except UNCERTAIN as error:
            moved = await self._find(caller, to_bucket, to_key)
            if moved is None or moved.id != source.id:
                raise _relocation_error(error) from None
            return _file(to_bucket, moved)
        return await self._stored(caller, to_bucket, to_key)

    async def copy(
        self, caller: Caller, bucket: str, path: str, to_path: str, *, to_bucket: str | None = None
    ) -> File:
        require_known(caller)
        to_bucket = to_bucket or bucket
        key, to_key, mark = key_of(path), key_of(to_path), uuid7()
        try:
            await self._storage.relocate(
                "copy", caller, (bucket, key), (to_bucket, to_key), mark=mark
            )
        except UNCERTAIN as error:
            copied = await self._find(caller, to_bucket, to_key)
            if copied is None or copied.upload != str(mark):
                raise _relocation_error(error) from None
            return _file(to_bucket, copied)
        return await self._stored(caller, to_bucket, to_key)

    async def delete(self, caller: Caller, bucket: str, path: str) -> bool:
        key = key_of(path)
        found = await self._find(caller, bucket, key)
        if found is None:
            return False
        require_change(caller, found)
        with suppress(NotFound):  # deleted just now: by others, or its first response was lost
            await self._storage.delete(caller, bucket, key)
        return True

    async def signed_url(
        self, caller: Caller, bucket: str, path: str, expires_in: timedelta
    ) -> SignedUrl:
        """Let Storage sign a URL of its own: the bytes do not pass through the application."""
        seconds = max(1, int(expires_in.total_seconds()))
        expires_at = utc_now().replace(microsecond=0) + timedelta(seconds=seconds)
        try:
            url = await self._storage.sign(caller, bucket, key_of(path), seconds)
        except NotFound:
            raise NotFound(MISSING) from None
        return SignedUrl(url, expires_at)

    def signer(self, bucket: str, path: str, signature: str) -> Caller:
        """Raise InvalidSignature: Storage verifies the URLs that it has signed."""
        raise InvalidSignature

    def public_url(self, bucket: str, path: str) -> str:
        return self._storage.public_url(bucket, key_of(path))

    def sweep(
        self,
        *,
        grace: timedelta = GRACE,
        delete_orphans: bool = False,
        delete_lost: bool = False,
    ) -> Sweep:
        self._capabilities.require("file_sweep")
        raise AssertionError("a capability that is not declared")

    async def _upload(
        self, spool: Spool, caller: Caller, bucket: str, key: str, options: dict[str, Any]
    ) -> None:
        if spool.size <= PART_BYTES:
            content = await spool.read(0, spool.size)
            await self._storage.upload(caller, bucket, key, content, **options)
        else:
            await ResumableUpload(self._client, caller, bucket, key, **options).send(spool)

    async def _reject(
        self, caller: Caller, bucket: str, key: str, error: AmphibaseError
    ) -> NoReturn:
        """Raise what the rejection of an upload means to the caller.

        Storage does not tell a path that is another's from one that policies do not admit.
        """
        if isinstance(error, Retryable):
            raise error
        found = await self._find(SERVICE, bucket, key)
        if found is None:
            raise error
        require_change(caller, found if may_read(caller, found) else None)
        raise PreconditionFailed if isinstance(error, Conflict) else error

    async def _stored(self, caller: Caller, bucket: str, key: str) -> File:
        found = await self._find(caller, bucket, key)
        if found is None:
            raise Contention("The file was deleted as soon as it was stored; try again")
        return _file(bucket, found)

    async def _find(self, caller: Caller, bucket: str, key: str) -> _Object | None:
        # Of all names that begin with this one, it is the first.
        first = await self._objects(caller, bucket, key, count=1)
        return first[0] if first and first[0].key == key else None

    async def _objects(
        self, caller: Caller, bucket: str, prefix: str, *, after: str = "", count: int
    ) -> Sequence[_Object]:
        arguments = {"bucket": bucket, "prefix": prefix, "after": after, "count": count}
        try:
            response = await self._client.request(
                "rest", "POST", "/rpc/amphibase_files", caller, json=arguments, idempotent=True
            )
        except NotFound:
            raise ConfigurationError(
                "The project has no function amphibase_files: apply what `amphibase supabase sql` "
                "prints"
            ) from None
        return [_Object(**each) for each in read_json(response)]


def _relocation_error(error: AmphibaseError) -> AmphibaseError:
    return Conflict(TAKEN) if isinstance(error, Conflict) else error


def _range_headers(start: int, stop: int, size: int) -> dict[str, str]:
    # Compressed, the bytes would be others than those that were counted.
    headers = {"Accept-Encoding": "identity"}
    if (start, stop) != (0, size):
        headers["Range"] = f"bytes={start}-{stop - 1}"
    return headers


async def _read(
    stack: AsyncExitStack, response: httpx.Response, length: int
) -> AsyncIterator[bytes]:
    """Yield nothing once, then the bytes of a response, and close it."""
    async with stack:
        yield b""
        async for chunk in response.aiter_bytes():
            length -= len(chunk)
            yield chunk
        if length != 0:
            raise Unavailable(
                "The project's Storage sent another number of bytes than it announced"
            )


def _file(bucket: str, found: _Object) -> File:
    return File(
        bucket=bucket,
        path=path_of(found.key),
        size=found.size,
        content_type=found.content_type,
        etag=found.etag.strip('"'),
        owner_id=parse_uuid(found.owner_id),
        public=found.public,
        created_at=datetime.fromisoformat(found.created_at),
        updated_at=datetime.fromisoformat(found.updated_at),
    )
