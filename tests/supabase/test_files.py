"""Files of a Supabase project, beyond the contract: lost responses, URLs of Storage, policies."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from tests.contract.files import ANN, BOB, TEN, paths, put, read
from tests.supabase.fault_proxy import BAD_GATEWAY, SERVER_BUSY, FaultProxy, fault_proxy
from tests.supabase_projects import prepare_files, settings_of

from amphibase import SERVICE, ConfigurationError, Forbidden
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.errors import PreconditionFailed, Unavailable
from amphibase.supabase import resumable_upload, retry
from amphibase.supabase.backend import SupabaseBackend
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.retry import RetryingClient
from amphibase.testing.supabase import LocalSupabase

LARGE = resumable_upload.PART_BYTES * 2 + 1


@asynccontextmanager
async def opened(project: LocalSupabase, url: str | None = None) -> AsyncIterator[SupabaseBackend]:
    """A backend on the project, or on a proxy before it."""
    settings = settings_of(project, **({"supabase_url": url} if url else {}))
    client = SupabaseClient(SupabaseProject.of(settings), RetryingClient(timeout=30))
    backend = SupabaseBackend(settings, load_keys(settings), client)
    yield backend
    await backend.close()


@pytest.fixture
async def store(supabase: LocalSupabase) -> AsyncIterator[SupabaseBackend]:
    async with opened(supabase) as backend:
        yield backend


@pytest.fixture
async def proxy(
    supabase: LocalSupabase, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FaultProxy]:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(resumable_upload, "FIRST_WAIT_SECONDS", 0.001)
    async with fault_proxy(supabase.url) as before:
        yield before


@pytest.fixture
async def faulty(supabase: LocalSupabase, proxy: FaultProxy) -> AsyncIterator[SupabaseBackend]:
    async with opened(supabase, proxy.url) as backend:
        yield backend


FAULTS = pytest.mark.parametrize("fault", ["drop", "lose", "cut", SERVER_BUSY], ids=str)


class TestLostResponses:
    @FAULTS
    @pytest.mark.parametrize("overwrite", [False, True])
    async def test_an_upload_is_stored_once(
        self, faulty: SupabaseBackend, proxy: FaultProxy, fault: Any, overwrite: bool
    ) -> None:
        proxy.faults = [fault]
        file = await put(faulty, overwrite=overwrite)
        assert file == await faulty.files.stat(ANN, "uploads", "a.txt")
        assert await read(faulty) == TEN
        with pytest.raises(PreconditionFailed):
            await put(faulty, overwrite=False)

    @pytest.mark.parametrize("at", [0, 1, 2, 3], ids=["creation", "first", "second", "last"])
    @pytest.mark.parametrize("fault", ["drop", "lose", BAD_GATEWAY], ids=str)
    async def test_a_large_upload_goes_on_where_it_was(
        self, faulty: SupabaseBackend, proxy: FaultProxy, fault: Any, at: int
    ) -> None:
        content = os.urandom(LARGE)
        proxy.faults = [0.0] * at + [fault]
        file = await put(faulty, content=content, overwrite=False)
        assert file.size == LARGE
        # The creation, three parts, what was lost and where to go on, and the metadata.
        assert proxy.requests <= 7
        assert await read(faulty) == content

    async def test_a_large_upload_that_fails_again_and_again_leaves_nothing(
        self, faulty: SupabaseBackend, proxy: FaultProxy
    ) -> None:
        for _ in range(resumable_upload.FAILURES):
            proxy.faults += [0.0, "drop"]  # the creation or the offset, then a part
        with pytest.raises(Unavailable):
            await put(faulty, content=bytes(LARGE))
        assert await paths(faulty, ANN) == []

    @pytest.mark.parametrize("operation", ["move", "copy"])
    async def test_a_move_or_a_copy_is_done_once(
        self, faulty: SupabaseBackend, proxy: FaultProxy, operation: str
    ) -> None:
        before = await put(faulty)
        proxy.faults = ["lose"] if operation == "copy" else [0.0, "lose"]
        file = await getattr(faulty.files, operation)(ANN, "uploads", "a.txt", "b.txt")
        assert (file.path, file.etag) == ("b.txt", before.etag)
        expected = ["b.txt"] if operation == "move" else ["a.txt", "b.txt"]
        assert await paths(faulty, ANN) == expected

    async def test_a_deleted_file_existed(self, faulty: SupabaseBackend, proxy: FaultProxy) -> None:
        await put(faulty)
        proxy.faults = [0.0, "lose"]
        assert await faulty.files.delete(ANN, "uploads", "a.txt") is True

    async def test_bytes_that_end_early_are_an_error(
        self, faulty: SupabaseBackend, proxy: FaultProxy
    ) -> None:
        await put(faulty)
        proxy.faults = [0.0, "cut"]
        with pytest.raises(Unavailable):
            await read(faulty)


async def test_a_prefix_is_not_the_code_of_another_character(store: SupabaseBackend) -> None:
    for path in ("a=b", "aä"):  # which Storage has as `a=C3=A4`
        await put(store, path)
    page = await store.files.list(ANN, "uploads", "a=")
    assert [file.path for file in page.items] == ["a=b"]


async def test_another_spelling_of_a_path_is_listed_as_nobodys_file(
    store: SupabaseBackend,
) -> None:
    await put(store, "a=b")
    await store.supabase(BOB).storage.from_("uploads").upload("a=3Db", b"Bob's")
    page = await store.files.list(SERVICE, "uploads")
    assert [(file.path, file.owner_id) for file in page.items] == [("a=b", ANN.user_id)]


class TestUrls:
    async def test_a_signed_one_opens_the_file_at_storage(self, store: SupabaseBackend) -> None:
        await put(store, "ä b.txt")
        signed = await store.files.signed_url(ANN, "uploads", "ä b.txt", timedelta(hours=1))
        async with httpx.AsyncClient() as anybody:
            assert (await anybody.get(signed.url)).content == TEN
            assert (await anybody.get(signed.url.replace("token=", "token=x"))).is_error

    async def test_a_public_one_opens_files_of_public_buckets_alone(
        self, store: SupabaseBackend
    ) -> None:
        await store.files.create_bucket("room", public=True)
        for bucket in ("room", "uploads"):
            await put(store, "ä b.txt", bucket=bucket)
        async with httpx.AsyncClient() as anybody:
            response = await anybody.get(store.files.public_url("room", "ä b.txt"))
            assert response.content == TEN
            assert (await anybody.get(store.files.public_url("uploads", "ä b.txt"))).is_error


class TestPolicies:
    async def test_hold_for_clients_that_go_past_the_application(
        self, store: SupabaseBackend
    ) -> None:
        await put(store)
        storage = store.supabase(BOB).storage.from_("uploads")
        assert await storage.list() == []
        for attempt in (
            storage.download("a.txt"),
            storage.move("a.txt", "b.txt"),
            storage.upload("a.txt", b"mine now", {"upsert": "true"}),
        ):
            with pytest.raises(Exception, match=r"not found|policy|Unauthorized"):
                await attempt
        assert await storage.remove(["a.txt"]) == []
        assert await read(store) == TEN

    async def test_without_the_function_the_message_says_what_to_apply(
        self, local_supabase: LocalSupabase
    ) -> None:
        async with opened(local_supabase) as backend:
            with pytest.raises(ConfigurationError, match="amphibase supabase sql"):
                await backend.files.stat(SERVICE, "uploads", "a.txt")

    async def test_a_project_that_lets_nobody_write_forbids_it(
        self, local_supabase: LocalSupabase
    ) -> None:
        prepare_files(local_supabase)
        with psycopg.connect(local_supabase.db_url, autocommit=True) as connection:
            connection.execute("DROP POLICY amphibase_objects_insert ON storage.objects")
        async with opened(local_supabase) as backend:
            with pytest.raises(Forbidden):
                await put(backend)
