"""What fails on the way: a lost database, rows without bytes, bytes without a row."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.gateway.storage.api import SECRET, SERVICE, TEN, Api, files_in, no_object, rejection
from tests.gateway.storage.test_tus import VERSION, metadata

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.blobs.disk import DiskBlobs
from amphibase.blobs.rows import FileRows
from amphibase.blobs.sweep import BlobSweep
from amphibase.database.engine import Database
from amphibase.errors import Unavailable
from amphibase.gateway.storage import object_rows
from amphibase.gateway.storage.service import StorageApp
from amphibase.gateway.storage.settings import StorageSettings


async def test_a_lost_database_is_reported_and_when_to_come_back(tmp_path: Path) -> None:
    settings = StorageSettings(file_storage_backend_path=tmp_path)
    tokens = KeyRing([Key.generate(), Key.from_secret(SECRET)])
    service = StorageApp(settings, "postgresql://me:secret@127.0.0.1:1/nowhere", tokens)
    transport: Any = httpx.ASGITransport(service)
    headers = {"authorization": f"Bearer {SERVICE}"}
    parts = {**VERSION, "upload-length": "10", **metadata(bucketName="b", objectName="a")}
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as http:
        for response in (
            await http.get("/bucket"),
            await http.get("/health"),
            await http.post("/object/b/a", content=TEN),
            await http.get("/object/public/b/a"),
            await http.post("/upload/resumable", headers=parts),
        ):
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            assert "secret" not in response.text
            assert "127.0.0.1" not in response.text
        assert (await http.get("/status")).status_code == 200
    await service.close()
    assert files_in(tmp_path) == []


async def test_health_is_reported(api: Api) -> None:
    for token in (None, SERVICE):
        assert (await api.get("/health", token=token)).json() == {"healthy": True}
        assert (await api.get("/status", token=token)).status_code == 200


async def test_the_sweep_finds_what_failure_leaves(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.bucket()
    await api.uploaded("b/kept", "b/lost")
    add, tries = object_rows.add, []

    async def lost_at_the_end(*arguments: Any, **named: Any) -> None:
        tries.append(arguments)
        await add(*arguments, **named)
        if len(tries) == 2:  # the first is undone
            raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(object_rows, "add", lost_at_the_end)
        response = await api.upload("b/unknown")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    ((version,),) = api.rows("SELECT version FROM storage.objects WHERE name = 'lost'")
    blobs = DiskBlobs(api.folder / "objects")
    (path,) = (path for path in api.blobs() if path.name == version)
    path.unlink()
    assert rejection(await api.get("/object/b/lost")) == no_object()
    database = Database(api.database)
    sweep = BlobSweep(
        database,
        FileRows("postgresql"),
        blobs,
        grace=timedelta(0),
        delete_orphans=True,
        delete_lost=True,
    )
    items = [(each.kind, each.size) async for each in sweep.findings()]
    await database.close()
    assert items == [("orphan", 10), ("lost", 10)]
    assert await api.names() == ["kept"]
    assert [UUID(path.name) for path in api.blobs()] == [
        UUID(version) for (version,) in api.rows("SELECT version FROM storage.objects")
    ]


async def test_an_error_of_the_database_that_is_not_ours_leaves_no_bytes(api: Api) -> None:
    await api.bucket()
    api.rows("""
        CREATE FUNCTION public.reject() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no more files' USING ERRCODE = 'XX123'; END $$;
        CREATE TRIGGER reject BEFORE INSERT ON storage.objects
        FOR EACH ROW WHEN (new.metadata ? 'size') EXECUTE FUNCTION public.reject()
    """)
    try:
        rejected = await api.upload()
    finally:
        api.rows("DROP FUNCTION public.reject CASCADE")
    assert rejected.status_code == 500
    assert api.blobs() == []


RAISING = """
    CREATE FUNCTION public.raising() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN {statement}; RETURN NEW; END $$;
    CREATE TRIGGER raising BEFORE INSERT ON storage.objects
    FOR EACH ROW EXECUTE FUNCTION public.raising()
"""


@pytest.fixture
def raising(api: Api) -> Iterator[Callable[[str], None]]:
    """Make a trigger for new objects that runs a statement."""

    def make(statement: str) -> None:
        api.rows(RAISING.format(statement=statement))

    yield make
    api.rows("DROP FUNCTION public.raising CASCADE")


@pytest.mark.parametrize(
    ("statement", "status", "in_body"),
    [
        ("RAISE EXCEPTION 'not here'", 500, "500"),
        ("RAISE SQLSTATE 'PT403' USING MESSAGE = 'not here'", 400, "403"),
    ],
)
async def test_a_triggers_message_and_status_reach_the_client(
    api: Api, raising: Callable[[str], None], statement: str, status: int, in_body: str
) -> None:
    await api.bucket()
    raising(statement)
    rejected = await api.upload()
    assert rejection(rejected) == (status, in_body, "DatabaseError", "not here")
    assert api.blobs() == []


async def test_a_trigger_that_lacks_a_right_is_named_in_the_log(
    api: Api, raising: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    await api.bucket()
    raising("PERFORM 1 FROM auth.sessions")
    assert (await api.upload()).status_code == 400
    assert any(
        "function raising()" in line and "SECURITY DEFINER" in line for line in caplog.messages
    )
