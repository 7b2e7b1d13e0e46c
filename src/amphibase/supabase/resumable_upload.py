"""Uploads in several requests, each of which may fail: the protocol of tus.io, as a client."""

import asyncio
import base64
from contextlib import suppress
from urllib.parse import urlsplit
from uuid import UUID

from amphibase.backend import Caller
from amphibase.blobs.tus import CHUNK_TYPE, VERSION
from amphibase.errors import AmphibaseError, Conflict, Retryable, Unavailable
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.spool import Spool
from amphibase.supabase.storage_api import metadata_of, upsert

PART_BYTES = 6 * 1024 * 1024
"""The size of a part, which Storage fixes; up to here one request is enough
(https://supabase.com/docs/guides/storage/uploads/resumable-uploads)."""

FAILURES = 5
"""How many requests in a row may fail before an upload is given up."""

FIRST_WAIT_SECONDS = 0.2
PATH = "/upload/resumable"


class ResumableUpload:
    """One upload of one caller.

    Args:
        overwrite: whether it may replace an object.
        mark: names the upload in the object's metadata.
    """

    def __init__(
        self,
        client: SupabaseClient,
        caller: Caller,
        bucket: str,
        key: str,
        *,
        content_type: str,
        overwrite: bool,
        mark: UUID,
    ) -> None:
        self._client = client
        self._caller = caller
        self._headers = {"Tus-Resumable": VERSION, **upsert(overwrite)}
        self._metadata = {
            "bucketName": bucket,
            "objectName": key,
            "contentType": content_type,
            "metadata": metadata_of(mark),
        }

    async def send(self, content: Spool) -> None:
        """Send all bytes; after a failed request, go on from where the project has them.

        Raises:
            AmphibaseError: Storage does not take the object.
            NotFound: the project does not know the upload any more, or has stored it already.
            Unavailable: too many requests in a row failed.
        """
        path = await self._create(content.size)
        try:
            await self._send_parts(path, content)
        except BaseException:
            with suppress(AmphibaseError):
                await self._client.request(
                    "storage", "DELETE", path, self._caller, headers=self._headers
                )
            raise

    async def _create(self, size: int) -> str:
        pairs = (
            f"{name} {base64.b64encode(value.encode()).decode()}"
            for name, value in self._metadata.items()
        )
        headers = {
            **self._headers,
            "Upload-Length": str(size),
            "Upload-Metadata": ",".join(pairs),
        }
        # A repeated request creates a second upload, and the first expires.
        response = await self._client.request(
            "storage", "POST", PATH, self._caller, headers=headers, idempotent=True
        )
        # The credentials go to the project's own address, whatever host the location names.
        id = urlsplit(response.headers.get("location", "")).path.rpartition("/")[2]
        if not id:
            raise Unavailable("The project's Storage began an upload and did not say where")
        return f"{PATH}/{id}"

    async def _send_parts(self, path: str, content: Spool) -> None:
        offset: int | None = 0
        failures = 0
        while offset is None or offset < content.size:
            try:
                if offset is None:
                    offset = await self._offset(path)
                    continue
                part = await content.read(offset, PART_BYTES)
                offset = await self._send_part(path, offset, part)
                failures = 0
            except (Retryable, Conflict):  # a conflict: the offset is another
                failures += 1
                if failures == FAILURES:
                    raise
                offset = None
                await asyncio.sleep(FIRST_WAIT_SECONDS * 2**failures)

    async def _send_part(self, path: str, offset: int, part: bytes) -> int:
        headers = {**self._headers, "Upload-Offset": str(offset), "Content-Type": CHUNK_TYPE}
        await self._client.request(
            "storage", "PATCH", path, self._caller, headers=headers, content=part
        )
        return offset + len(part)

    async def _offset(self, path: str) -> int:
        response = await self._client.request(
            "storage", "HEAD", path, self._caller, headers=self._headers
        )
        return int(response.headers["upload-offset"])
