"""Files of a Supabase project, over the API of its Storage."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import SERVICE
from amphibase.backend.files import Bucket
from amphibase.blobs.tus import CHUNK_TYPE, VERSION
from amphibase.database.engine import Database, PoolOptions
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    InvalidRequest,
    InvalidValue,
    NotFound,
    PayloadTooLarge,
    Retryable,
    Unavailable,
)
from amphibase.models import utc_now
from amphibase.move.endpoints import SupabaseEndpoint
from amphibase.move.files.base import Content, FileRejected, StoredFile, UploadState
from amphibase.move.files.sql import ANY_TYPE, NO_CACHE, FileTable
from amphibase.move.parallel import Pace
from amphibase.move.project import client_of
from amphibase.supabase.buckets import SupabaseBuckets
from amphibase.supabase.errors import read_json
from amphibase.supabase.resumable_upload import PART_BYTES, PATH
from amphibase.supabase.storage_api import StorageApi, etag_of, object_path

PAGE = 1000
POOL = PoolOptions(size=4, by_transaction=True)
PIECE_BYTES = 256 * 1024
"""How much of a body is handed to the connection at once, each layer of which has a copy."""

LARGE_BYTES = 1024 * 1024
LARGE_AT_ONCE = 2
"""Of each file over LARGE_BYTES a part is in memory, since it may have to be sent again."""

TOKEN_LIFETIME = timedelta(hours=1)
REJECTIONS = (InvalidRequest, InvalidValue, Conflict, NotFound, PayloadTooLarge)
"""Errors that are about a file; all others, such as a key that has expired, end the move."""

ATTEMPTS = 5
"""How often bytes that stopped coming are asked for again from where they ended."""


class ProjectFileSide:
    """The files of one project.

    By its database, where that is known, owners and times are read and written too; else owners are
    written where the secret is known that signs tokens.
    """

    names_are_paths = False

    def __init__(self, endpoint: SupabaseEndpoint) -> None:
        self._client = client_of(endpoint)
        self._buckets = SupabaseBuckets(StorageApi(self._client))
        self._database = Database(endpoint.database, POOL) if endpoint.database else None
        self._rows = FileTable(self._database) if self._database else None
        secret = endpoint.jwt_secret
        self._keys = KeyRing([Key.from_secret(secret.get_secret_value())]) if secret else None
        self._pace = Pace()
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self.owners = self._rows is not None

    async def check(self) -> None:
        await self._pace.keep(lambda: self._client.request("storage", "GET", "/status", SERVICE))

    async def keeps_times(self) -> bool:
        return self._rows is not None and await self._rows.keeps_times()

    async def buckets(self) -> Sequence[Bucket]:
        return await self._pace.keep(self._buckets.buckets)

    async def make_bucket(self, bucket: Bucket) -> None:
        await self._pace.keep(lambda: self._buckets.create_bucket(bucket.id, public=bucket.public))

    async def set_bucket(self, bucket: Bucket) -> None:
        await self._pace.keep(
            lambda: self._buckets.update_bucket(
                bucket.id,
                public=bucket.public,
                file_size_limit=bucket.file_size_limit,
                allowed_types=bucket.allowed_types,
            )
        )

    async def delete_bucket(self, id: str) -> bool:
        return await self._pace.keep(lambda: self._buckets.delete_bucket(id))

    async def files(self, bucket: str) -> AsyncIterator[StoredFile]:
        if self._rows is not None:
            async for file in self._rows.all(bucket):
                yield file
            return
        cursor: str | None = None
        while True:
            page = await self._page(bucket, cursor)
            for listed in page["objects"]:
                yield _listed(bucket, listed)
            cursor = page.get("nextCursor")
            if not page.get("hasNext") or not cursor:
                return

    async def find(self, bucket: str, name: str) -> StoredFile | None:
        if self._rows is not None:
            return await self._rows.find(bucket, name)
        path = f"/object/info/{quote(bucket, safe='')}/{quote(name)}"

        async def attempt() -> StoredFile | None:
            try:
                response = await self._client.request("storage", "GET", path, SERVICE)
            except NotFound:
                return None
            return _described(bucket, read_json(response))

        return await self._pace.keep(attempt)

    async def read(self, file: StoredFile, start: int = 0) -> AsyncIterator[bytes]:
        position, failures = start, 0
        while position < file.size or position == file.size == 0:
            try:
                async for chunk in self._read_from(file, position):
                    position += len(chunk)
                    failures = 0
                    yield chunk
                return
            except NotFound:
                raise FileRejected("it was deleted, or its bytes are missing") from None
            except Retryable:
                failures += 1
                if failures == ATTEMPTS:
                    raise

    async def _read_from(self, file: StoredFile, start: int) -> AsyncIterator[bytes]:
        # Compressed, the bytes would be others than those that were counted.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        path = object_path(file.bucket, file.name)
        async with self._client.stream(
            "storage", "GET", path, SERVICE, headers=headers
        ) as response:
            if etag_of(response) not in ("", file.etag):
                raise FileRejected("it was changed while it was read; run again")
            async for chunk in response.aiter_bytes():
                yield chunk

    async def write(self, file: StoredFile, content: Content, upload: UploadState) -> None:
        try:
            async with self._large if content.size > LARGE_BYTES else nullcontext():
                if content.size <= PART_BYTES:
                    await self._write_whole(file, content)
                else:
                    await self._write_parts(file, content, upload)
        except REJECTIONS as error:
            raise FileRejected(str(error)) from None
        except UnicodeEncodeError:
            raise FileRejected("its type or its cache-control cannot be a header") from None
        if self._database is not None and self._rows is not None:
            async with self._database.write() as connection:
                await self._rows.describe(connection, file)

    async def _write_whole(self, file: StoredFile, content: Content) -> None:
        whole = bytearray()
        async for chunk in content.chunks():
            whole += chunk
        headers = {
            "Content-Length": str(len(whole)),
            "Content-Type": file.content_type,
            "Cache-Control": file.cache_control,
            "x-upsert": "true",
            **self._as_owner(file),
        }
        if file.user_metadata:
            encoded = json.dumps(dict(file.user_metadata)).encode()
            headers["x-metadata"] = base64.b64encode(encoded).decode()

        async def attempt() -> None:
            await self._client.request(
                "storage",
                "POST",
                object_path(file.bucket, file.name),
                SERVICE,
                headers=headers,
                content=_pieces(whole),
            )

        await self._pace.keep(attempt)

    async def _write_parts(self, file: StoredFile, content: Content, upload: UploadState) -> None:
        headers = {"Tus-Resumable": VERSION, "x-upsert": "true", **self._as_owner(file)}
        path, offset = upload.state, 0
        if path is not None:
            try:
                offset = await self._pace.keep(partial(self._offset, path, headers))
            except NotFound:
                path = None
        if path is None:
            path = await self._begin(file, content.size, headers)
            upload.remember(path)
        waiting = bytearray()
        async for chunk in content.chunks(offset):
            waiting += chunk
            while len(waiting) >= PART_BYTES:
                with memoryview(waiting) as view:
                    part = bytes(view[:PART_BYTES])
                del waiting[:PART_BYTES]
                await self._send_part(path, offset, part, headers)
                offset += PART_BYTES
        if waiting:
            try:
                await self._send_part(path, offset, bytes(waiting), headers)
            except NotFound:  # of an upload that is stored, Storage knows no more
                stored = await self.find(file.bucket, file.name)
                if stored is None or stored.size != content.size:
                    raise

    async def _begin(self, file: StoredFile, size: int, headers: dict[str, str]) -> str:
        metadata = {
            "bucketName": file.bucket,
            "objectName": file.name,
            "contentType": file.content_type,
        }
        # The protocol takes seconds alone; any other rule is written by the database.
        if (seconds := file.cache_control.removeprefix("max-age=")).isdecimal():
            metadata["cacheControl"] = seconds
        if file.user_metadata:
            metadata["metadata"] = json.dumps(dict(file.user_metadata))
        pairs = (
            f"{name} {base64.b64encode(value.encode()).decode()}"
            for name, value in metadata.items()
        )
        begin = {
            **headers,
            "Upload-Length": str(size),
            "Upload-Metadata": ",".join(pairs),
        }

        async def attempt() -> str:
            response = await self._client.request(
                "storage", "POST", PATH, SERVICE, headers=begin, idempotent=True
            )
            id = urlsplit(response.headers.get("location", "")).path.rpartition("/")[2]
            if not id:
                raise Unavailable("The project's Storage began an upload and did not say where")
            return f"{PATH}/{id}"

        return await self._pace.keep(attempt)

    async def _send_part(
        self, path: str, offset: int, part: bytes, headers: dict[str, str]
    ) -> None:
        """Send a part; one whose response was lost may have arrived, whole or in part."""
        begins_at: int | None = offset

        async def attempt() -> None:
            nonlocal begins_at
            if begins_at is None:
                begins_at = await self._offset(path, headers)
            rest = part[begins_at - offset :]
            if not rest:
                return
            at = {
                "Upload-Offset": str(begins_at),
                "Content-Type": CHUNK_TYPE,
                "Content-Length": str(len(rest)),
            }
            begins_at = None
            try:
                await self._client.request(
                    "storage",
                    "PATCH",
                    path,
                    SERVICE,
                    headers={**headers, **at},
                    content=_pieces(rest),
                )
            except Conflict:  # the offset is another
                raise Unavailable("Storage has another part of the upload") from None

        await self._pace.keep(attempt)

    async def _offset(self, path: str, headers: dict[str, str]) -> int:
        response = await self._client.request("storage", "HEAD", path, SERVICE, headers=headers)
        return int(response.headers["upload-offset"])

    async def discard(self, state: str) -> None:
        headers = {"Tus-Resumable": VERSION}
        try:
            await self._client.request("storage", "DELETE", state, SERVICE, headers=headers)
        except AmphibaseError:
            return  # it expires by itself

    async def delete(self, bucket: str, name: str) -> None:
        async def attempt() -> None:
            try:
                await self._client.request(
                    "storage", "DELETE", object_path(bucket, name), SERVICE, idempotent=True
                )
            except NotFound:
                return

        await self._pace.keep(attempt)

    async def close(self) -> None:
        await self._client.close()
        if self._database is not None:
            await self._database.close()

    def _as_owner(self, file: StoredFile) -> dict[str, str]:
        """Return the header by which Storage records the owner, who need not be allowed to write:
        the role of the token is the service's."""
        if self._keys is None or self._database is not None or not file.owner_id:
            return {}
        now = utc_now()
        claims = {
            "sub": file.owner_id,
            "role": "service_role",
            "iat": int(now.timestamp()),
            "exp": int((now + TOKEN_LIFETIME).timestamp()),
        }
        return {"Authorization": f"Bearer {self._keys.issue(claims)}"}

    async def _page(self, bucket: str, cursor: str | None) -> dict[str, Any]:
        body: dict[str, Any] = {"prefix": "", "limit": PAGE, "with_delimiter": False}
        if cursor is not None:
            body["cursor"] = cursor

        async def attempt() -> dict[str, Any]:
            path = f"/object/list-v2/{quote(bucket, safe='')}"
            response = await self._client.request(
                "storage", "POST", path, SERVICE, json=body, idempotent=True
            )
            page: dict[str, Any] = read_json(response)
            return page

        return await self._pace.keep(attempt)


async def _pieces(content: bytes | bytearray) -> AsyncIterator[bytes]:
    with memoryview(content) as view:
        for start in range(0, len(view), PIECE_BYTES):
            yield bytes(view[start : start + PIECE_BYTES])


def _listed(bucket: str, listed: dict[str, Any]) -> StoredFile:
    """Return a file as a list shows it, without its own metadata."""
    metadata = listed.get("metadata") or {}
    return StoredFile(
        bucket=bucket,
        name=listed["name"],
        size=int(metadata.get("size") or 0),
        content_type=metadata.get("mimetype") or ANY_TYPE,
        cache_control=metadata.get("cacheControl") or NO_CACHE,
        etag=str(metadata.get("eTag") or listed.get("id")).strip('"'),
        created_at=datetime.fromisoformat(listed["created_at"]),
        updated_at=datetime.fromisoformat(listed["updated_at"]),
    )


def _described(bucket: str, info: dict[str, Any]) -> StoredFile:
    """Return a file as Storage describes it, without its owner."""
    created_at = datetime.fromisoformat(info["created_at"])
    modified = info.get("last_modified") or info.get("updated_at")
    return StoredFile(
        bucket=bucket,
        name=info["name"],
        size=int(info.get("size") or 0),
        content_type=info.get("content_type") or ANY_TYPE,
        cache_control=info.get("cache_control") or NO_CACHE,
        etag=str(info.get("etag") or info.get("id")).strip('"'),
        created_at=created_at,
        updated_at=datetime.fromisoformat(modified) if modified else created_at,
        user_metadata=info.get("metadata"),
        version=info.get("version"),
    )
