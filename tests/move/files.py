"""Ends of a move with files, which are stored and read by the ways of an application."""

import base64
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
from sqlalchemy import select, update
from tests.move.accounts import ANN, BOB

from amphibase import SERVICE, Caller
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.database.engine import Database
from amphibase.errors import Conflict
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint
from amphibase.move.files.stage import FilesStage
from amphibase.move.journal import Journal
from amphibase.move.plan import EndPlan, FilesPlan, Plan
from amphibase.move.quarantine import Quarantine
from amphibase.move.stage import Outcome, Verification
from amphibase.schema.tables import tables
from amphibase.settings.application import load_settings
from amphibase.sql.backend import SqlBackend
from amphibase.testing.supabase import LocalSupabase

BUCKET = "pictures"
LARGE = random.Random(1).randbytes(9 * 2**20)
"""9 MiB: more than a project takes in one request."""


@dataclass(frozen=True)
class TestFile:
    """A file of the tests."""

    __test__ = False

    content: bytes
    type: str = "text/plain"
    cache_control: str = "no-cache"
    owner: UUID | None = ANN
    metadata: dict[str, Any] = field(default_factory=dict)


FILES = {
    "ann/hello.txt": TestFile(b"hello", cache_control="max-age=3600", metadata={"by": "Ann"}),
    "ann/large.bin": TestFile(LARGE, "application/octet-stream", "max-age=60"),
    "bob/empty": TestFile(b"", "application/x-empty", owner=BOB),
    "bob/a = b (1).png": TestFile(b"\x89PNG\r\n", "image/png", owner=BOB),
    "nobody's": TestFile(b"nobody's", owner=None),
}
STRANGE = "Größe/ﬁle=C3.txt"
"""A name that a project's Storage does not take as it is."""


class SqlStore:
    """A SQL database with a store of bytes, as an application uses it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.files = f"file://{folder}"

    async def add(self, files: dict[str, TestFile]) -> None:
        async with self._opened() as backend:
            with suppress(Conflict):
                await backend.files.create_bucket(
                    BUCKET, public=True, file_size_limit=20_000_000, allowed_types=["*/*"]
                )
            for path, file in files.items():
                await self._put(backend, path, file)

    async def _put(self, backend: SqlBackend, path: str, file: TestFile) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield file.content

        caller = Caller("authenticated", file.owner) if file.owner else SERVICE
        await backend.files.put(caller, BUCKET, path, chunks(), content_type=file.type)
        objects = tables(backend.database.dialect).objects
        async with backend.database.write() as connection:
            row = objects.c.name == path
            (metadata,) = (await connection.execute(select(objects.c.metadata).where(row))).one()
            metadata = {**metadata, "cacheControl": file.cache_control}
            values = {"metadata": metadata, "user_metadata": file.metadata}
            await connection.execute(update(objects).where(row).values(values))

    async def read(self) -> dict[str, TestFile]:
        async with self._opened() as backend:
            rows = await rows_of(backend.database)
            return {
                name: TestFile(
                    await self._bytes(backend, name),
                    metadata["mimetype"],
                    metadata["cacheControl"],
                    UUID(owner) if owner else None,
                    own or {},
                )
                for name, metadata, owner, own in rows
            }

    async def _bytes(self, backend: SqlBackend, name: str) -> bytes:
        opened = await backend.files.open(SERVICE, BUCKET, name)
        return b"".join([chunk async for chunk in opened.chunks])

    async def bucket(self) -> tuple[Any, ...]:
        async with self._opened() as backend:
            bucket = await backend.files.bucket(BUCKET)
        assert bucket is not None
        return bucket.public, bucket.file_size_limit, tuple(bucket.allowed_types)

    async def set_bucket(
        self,
        *,
        public: bool,
        file_size_limit: int | None,
        allowed_types: tuple[str, ...] = ("*/*",),
    ) -> None:
        async with self._opened() as backend:
            await backend.files.update_bucket(
                BUCKET,
                public=public,
                file_size_limit=file_size_limit,
                allowed_types=allowed_types,
            )

    async def buckets(self) -> list[str]:
        async with self._opened() as backend:
            return [bucket.id for bucket in await backend.files.buckets()]

    @property
    def blobs(self) -> int:
        return sum(path.is_file() for path in self.folder.rglob("*"))

    def blob_of(self, content: bytes) -> Path:
        """Return where the bytes of a file are."""
        (path,) = [
            path
            for path in self.folder.rglob("*")
            if path.is_file() and path.read_bytes() == content
        ]
        return path

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[SqlBackend]:
        settings = load_settings(database_url=self.url, files_url=self.files)
        backend = SqlBackend(settings, KeyRing([Key.generate()]))
        try:
            yield backend
        finally:
            await backend.close()


class ProjectStore:
    """The Storage of a project, by its API."""

    def __init__(self, project: LocalSupabase) -> None:
        self._project = project
        self._signing = KeyRing([Key.from_secret(project.jwt_secret)])

    async def add(self, files: dict[str, TestFile]) -> None:
        async with self._http() as http:
            body = {"id": BUCKET, "name": BUCKET, "public": True, "file_size_limit": 20_000_000}
            body["allowed_mime_types"] = ["*/*"]
            await http.post("/bucket", json=body)
            for name, file in files.items():
                token = self._signing.issue({"role": "service_role", "sub": str(file.owner)})
                headers = {
                    "Content-Type": file.type,
                    "Cache-Control": file.cache_control,
                    "x-upsert": "true",
                    "x-metadata": base64.b64encode(json.dumps(file.metadata).encode()).decode(),
                }
                if file.owner:
                    headers["Authorization"] = f"Bearer {token}"
                path = f"/object/{BUCKET}/{quote(name)}"
                response = await http.post(path, content=file.content, headers=headers)
                response.raise_for_status()

    async def read(self) -> dict[str, TestFile]:
        database = Database(self._project.db_url)
        rows = await rows_of(database)
        await database.close()
        files = {}
        async with self._http() as http:
            for name, metadata, owner, own in rows:
                response = await http.get(f"/object/{BUCKET}/{quote(name)}")
                files[name] = TestFile(
                    response.raise_for_status().content,
                    metadata["mimetype"],
                    metadata["cacheControl"],
                    UUID(owner) if owner else None,
                    own or {},
                )
        return files

    async def bucket(self) -> tuple[Any, ...]:
        async with self._http() as http:
            bucket = (await http.get(f"/bucket/{BUCKET}")).raise_for_status().json()
        types = tuple(bucket["allowed_mime_types"] or ())
        return bucket["public"], bucket["file_size_limit"], types

    def _http(self) -> httpx.AsyncClient:
        key = self._project.service_role_key
        return httpx.AsyncClient(
            base_url=f"{self._project.url}/storage/v1",
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
            timeout=30,
        )


async def rows_of(database: Database) -> list[Any]:
    """Read the rows of the files by their names."""
    objects = tables(database.dialect).objects.c
    columns = (objects.name, objects.metadata, objects.owner_id, objects.user_metadata)
    statement = select(*columns).where(objects.bucket_id == BUCKET).order_by(objects.name)
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(statement)]


@asynccontextmanager
async def moving(
    source: Endpoint, target: Endpoint, folder: Path, *, overwrite: bool = False, **options: Any
) -> AsyncIterator[FilesStage]:
    """A stage of files with a journal in that folder."""
    plan = Plan(
        name="test",
        source=EndPlan(address=source.address),
        target=EndPlan(address=target.address),
        files=FilesPlan(buckets=(BUCKET,), **options),
    )
    path = folder / "plan.toml"
    with Journal(path) as journal:
        context = MoveContext(plan, source, target, journal, Quarantine(path), overwrite=overwrite)
        stage = FilesStage(context)
        try:
            yield stage
        finally:
            await stage.close()


async def moved(source: Endpoint, target: Endpoint, folder: Path, **options: Any) -> Verification:
    """Move all files, and compare."""
    async with moving(source, target, folder, **options) as stage:
        failed = [check for check in await stage.check() if check.outcome is Outcome.FAIL]
        assert failed == []
        await stage.run()
        assert await stage.reconcile() == 0
        verified = await stage.verify()
        await stage.finish()
        return verified
