"""How the tests speak to Storage."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.keys import api_key

SECRET = "a shared secret of the tests with more than thirty-two bytes"
SERVICE = api_key(SECRET, "service_role")
ANON = api_key(SECRET, "anon")
ANN, BOB = UUID(int=0xA), UUID(int=0xB)
TEN = b"0123456789"

OWN_FOLDER = """
    CREATE POLICY own_folder ON storage.objects FOR ALL TO authenticated
    USING (bucket_id = 'mine' AND (storage.foldername(name))[1] = auth.uid()::text)
"""
"""What Supabase's documentation tells everybody to write: a folder for each user."""


@dataclass
class Api:
    """One running Storage.

    Attributes:
        url: of the project; Storage is below `/storage/v1`.
        folder: where the bytes are.
    """

    url: str
    tokens: KeyRing
    database: str
    folder: Path
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.AsyncClient(base_url=f"{self.url}/storage/v1")

    async def close(self) -> None:
        await self.client.aclose()

    def token(self, user: UUID = ANN, **claims: Any) -> str:
        """A user's token."""
        standard = {"sub": str(user), "role": "authenticated", "exp": int(time.time()) + 60}
        return self.tokens.issue({**standard, **claims})

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = SERVICE,
        content: Any = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        sent = dict(headers or {})
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        return await self.client.request(
            method, path, json=body, content=content, headers=sent, **options
        )

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("POST", path, body, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("PUT", path, body, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def head(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("HEAD", path, **options)

    async def delete(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("DELETE", path, body, **options)

    async def bucket(self, name: str = "b", **rules: Any) -> str:
        """Make a bucket; its name."""
        response = await self.post("/bucket", {"name": name, **rules})
        assert response.status_code == 200, response.text
        return name

    async def upload(
        self,
        path: str = "b/a.txt",
        content: bytes = TEN,
        *,
        kind: str = "text/plain",
        token: str | None = SERVICE,
        **headers: str,
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.post(
            f"/object/{path}",
            content=content,
            token=token,
            headers={"content-type": kind, **named},
        )

    async def uploaded(self, *paths: str, **options: Any) -> None:
        """Upload files, which have to be taken."""
        for path in paths or ("b/a.txt",):
            response = await self.upload(path, **options)
            assert response.status_code == 200, response.text

    async def names(self, bucket: str = "b", prefix: str = "", **asked: Any) -> list[str]:
        """What a list shows; folders end with a slash."""
        token = asked.pop("token", SERVICE)
        response = await self.post(
            f"/object/list/{bucket}", {"prefix": prefix, **asked}, token=token
        )
        assert response.status_code == 200, response.text
        return [each["name"] + ("/" if each["id"] is None else "") for each in response.json()]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database holds, or does."""
        with psycopg.connect(self.database) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def blobs(self) -> list[Path]:
        """All that the folder keeps."""
        return files_in(self.folder)


def files_in(folder: Path) -> list[Path]:
    """The files of a folder and of those below it."""
    return [path for path in folder.rglob("*") if path.is_file()]


def rejection(response: httpx.Response) -> tuple[int, str, str, str]:
    """Status, and what the body says of the error."""
    body = response.json()
    return response.status_code, body["statusCode"], body["error"], body["message"]


def no_bucket() -> tuple[int, str, str, str]:
    return 400, "404", "Bucket not found", "Bucket not found"


def no_object() -> tuple[int, str, str, str]:
    return 400, "404", "not_found", "Object not found"


def taken() -> tuple[int, str, str, str]:
    return 400, "409", "Duplicate", "The resource already exists"


def hidden() -> tuple[int, str, str, str]:
    return 400, "403", "Unauthorized", "new row violates row-level security policy"


async def slowly(parts: Iterable[bytes]) -> Any:
    for part in parts:
        yield part
