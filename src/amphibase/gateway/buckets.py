"""The buckets that `supabase/config.toml` names, made with their files as the Supabase CLI does."""

import asyncio
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import BucketConfig
from amphibase.gateway.project import connected

if TYPE_CHECKING:
    from httpx import AsyncClient
    from starlette.types import ASGIApp

UPLOAD_SECONDS = 60

_MAKE = """
INSERT INTO storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
VALUES (%(name)s, %(name)s, %(public)s, %(limit)s, %(types)s)
ON CONFLICT (id) DO UPDATE SET
    public = excluded.public,
    file_size_limit = excluded.file_size_limit,
    allowed_mime_types = excluded.allowed_mime_types
"""


async def create(url: str, buckets: Sequence[BucketConfig]) -> None:
    """Create the buckets, and give those that exist what the file says of them.

    Args:
        url: of the project's database, as its owner.

    Raises:
        ConfigurationError: the database rejects one.
        Unavailable: the server cannot be reached.
    """
    if not buckets:
        return
    async with connected(url) as connection:
        for bucket in buckets:
            values = {
                "name": bucket.name,
                "public": bucket.public,
                "limit": bucket.file_size_limit,
                "types": [*bucket.allowed_mime_types] or None,
            }
            try:
                await connection.execute(_MAKE.encode(), values)
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                raise ConfigurationError(
                    f"storage.buckets.{bucket.name}: {error.diag.message_primary}"
                ) from error


async def upload(
    url: str, key: str, buckets: Sequence[BucketConfig], app: "ASGIApp | None" = None
) -> None:
    """Upload the files of the buckets that are not there yet.

    Args:
        url: of the gateway.
        key: the service role's.
        app: the gateway itself, where it does not listen yet.

    Raises:
        ConfigurationError: a folder is missing, or Storage rejects a file; names it.
    """
    folders = [(bucket.name, bucket.objects) for bucket in buckets if bucket.objects is not None]
    if not folders:
        return
    import httpx  # as late as this: most projects have no such files

    transport = httpx.ASGITransport(app) if app else None
    headers = {"Authorization": f"Bearer {key}", "apikey": key}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, transport=transport, timeout=UPLOAD_SECONDS
    ) as client:
        for bucket, folder in folders:
            for path in await asyncio.to_thread(_files_in, bucket, folder):
                await _upload_file(client, bucket, path, path.relative_to(folder).as_posix())


def _files_in(bucket: str, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigurationError(
            f"storage.buckets.{bucket}.objects_path: there is no folder {folder}"
        )
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


async def _upload_file(client: "AsyncClient", bucket: str, path: Path, name: str) -> None:
    import httpx

    content_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        response = await client.post(
            f"/storage/v1/object/{quote(f'{bucket}/{name}')}",
            content=await asyncio.to_thread(path.read_bytes),
            headers={"Content-Type": content_type},
        )
        body = response.json()
    except (OSError, httpx.HTTPError, ValueError) as error:
        reason = str(error) or type(error).__name__
    else:
        if response.is_success or body.get("error") == "Duplicate":
            return
        reason = body.get("message", response.status_code)
    raise ConfigurationError(f"{path} cannot be stored in the bucket {bucket}: {reason}")
