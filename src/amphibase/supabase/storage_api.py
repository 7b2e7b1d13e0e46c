"""Calls to Supabase Storage: paths, bodies and headers of its API."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx

from amphibase.backend import SERVICE, Caller
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json

UPLOAD_MARK = "amphibase_upload"
"""The entry of an object's own metadata that tells an upload of ours from another."""


class StorageApi:
    """Calls to the Storage of one project."""

    def __init__(self, client: SupabaseClient) -> None:
        self.client = client

    async def bucket(
        self, method: str, id: str, json: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a request about a bucket, as the service."""
        path = f"/bucket/{quote(id, safe='')}"
        response = await self.client.request("storage", method, path, SERVICE, json=json)
        body: dict[str, Any] = read_json(response)
        return body

    async def buckets(
        self, method: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> Any:
        """Send a request about all buckets, as the service."""
        response = await self.client.request(
            "storage", method, "/bucket", SERVICE, params=params or {}, json=json
        )
        return read_json(response)

    async def upload(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        content: bytes,
        *,
        content_type: str,
        overwrite: bool,
        mark: UUID,
    ) -> None:
        """Store an object in one request, which may be repeated.

        Args:
            mark: names the upload in the object's metadata.
        """
        headers = {
            "Content-Type": content_type,
            "Cache-Control": "no-cache",
            **upsert(overwrite),
            **metadata_header(mark),
        }
        await self.client.request(
            "storage",
            "POST",
            object_path(bucket, key),
            caller,
            headers=headers,
            content=content,
            idempotent=True,
        )

    async def sign(self, caller: Caller, bucket: str, key: str, seconds: int) -> str:
        """Return a URL that opens an object for so many seconds."""
        path = f"/object/sign/{_quoted(bucket, key)}"
        response = await self.client.request(
            "storage", "POST", path, caller, json={"expiresIn": seconds}, idempotent=True
        )
        return self.client.url("storage", read_json(response)["signedURL"])

    async def relocate(
        self,
        verb: str,
        caller: Caller,
        source: tuple[str, str],
        destination: tuple[str, str],
        *,
        mark: UUID | None = None,
    ) -> None:
        """Move or copy an object.

        Args:
            verb: `move` or `copy`.
            source, destination: a bucket, and the name in it.
            mark: names the copy in its metadata, in place of what the source has there.
        """
        body: dict[str, Any] = {
            "bucketId": source[0],
            "sourceKey": source[1],
            "destinationBucket": destination[0],
            "destinationKey": destination[1],
        }
        headers: dict[str, str] = {}
        if mark is not None:
            body["copyMetadata"] = False
            headers = metadata_header(mark)
        path = f"/object/{verb}"
        await self.client.request(
            "storage", "POST", path, caller, headers=headers, json=body, idempotent=True
        )

    async def delete(self, caller: Caller, bucket: str, key: str) -> None:
        """Delete an object. Raises NotFound, also where a first request's response was lost."""
        path = object_path(bucket, key)
        await self.client.request("storage", "DELETE", path, caller, idempotent=True)

    def public_url(self, bucket: str, key: str) -> str:
        """Return the URL of an object of a public bucket."""
        return self.client.url("storage", f"/object/public/{_quoted(bucket, key)}")


def object_path(bucket: str, key: str) -> str:
    """Return the path of an object."""
    return f"/object/{_quoted(bucket, key)}"


def upsert(overwrite: bool) -> dict[str, str]:
    """Return the header that says whether an object may be replaced."""
    return {"x-upsert": str(overwrite).lower()}


def metadata_header(mark: UUID) -> dict[str, str]:
    """Return the header of an object's own metadata."""
    return {"x-metadata": base64.b64encode(metadata_of(mark).encode()).decode()}


def metadata_of(mark: UUID) -> str:
    """Return an object's own metadata, as JSON."""
    return json.dumps({UPLOAD_MARK: str(mark)})


def etag_of(response: httpx.Response) -> str:
    """Return the entity tag of a response, without quotes."""
    return str(response.headers.get("etag", "")).removeprefix("W/").strip('"')


def _quoted(bucket: str, key: str) -> str:
    return f"{quote(bucket, safe='')}/{quote(key)}"
