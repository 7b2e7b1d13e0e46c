"""The contract of Files, on every backend."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import pytest
from tests.contract.files import ANN, BOB, TEN, misfits, paths, put, read, stream

from amphibase import ANONYMOUS, SERVICE, Caller, Conflict, Forbidden, NotFound
from amphibase.backend import Backend
from amphibase.backend.files import ByteRange
from amphibase.errors import (
    ForeignKeyViolation,
    InvalidCursor,
    InvalidSignature,
    PreconditionFailed,
    RangeNotSatisfiable,
    Unauthenticated,
)
from amphibase.models import utc_now


class TestPut:
    @pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 20 * 1024 * 1024 + 7])
    async def test_keeps_every_byte_whatever_the_size(self, store: Backend, size: int) -> None:
        content = os.urandom(size)
        chunks = [content[at : at + 700_001] for at in range(0, size, 700_001)]
        file = await store.files.put(
            ANN, "uploads", "ä/b c.bin", stream(*chunks), content_type="application/x-thing"
        )
        assert (file.size, file.content_type, file.owner_id) == (
            size,
            "application/x-thing",
            ANN.user_id,
        )
        assert await read(store, "ä/b c.bin") == content
        assert await store.files.stat(ANN, "uploads", "ä/b c.bin") == file

    async def test_replaces_a_file_and_leaves_no_bytes_behind(self, store: Backend) -> None:
        first = await put(store)
        second = await put(store, content=b"new")
        assert second.etag != first.etag
        assert (second.created_at, second.size) == (first.created_at, 3)
        assert second.updated_at > first.updated_at
        assert await read(store) == b"new"
        assert await misfits(store) == []

    async def test_does_not_replace_where_that_is_not_wanted(self, store: Backend) -> None:
        await put(store)
        with pytest.raises(PreconditionFailed):
            await put(store, content=b"new", overwrite=False)
        assert await read(store) == TEN

    async def test_shows_nothing_of_an_upload_that_is_cut(self, store: Backend) -> None:
        await put(store)

        async def cut() -> AsyncIterator[bytes]:
            yield b"x" * 9_000_000
            assert await read(store) == TEN
            raise ConnectionResetError("the sender is gone")

        for path in ("a.txt", "b.txt"):
            with pytest.raises(ConnectionResetError):
                await store.files.put(ANN, "uploads", path, cut(), content_type="text/plain")
        assert await read(store) == TEN
        assert await paths(store, ANN) == ["a.txt"]
        assert await misfits(store) == []

    async def test_shows_nothing_of_an_upload_that_is_cancelled(self, store: Backend) -> None:
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1_000_000
                begun.set()
                await asyncio.sleep(0.01)

        upload = asyncio.create_task(
            store.files.put(ANN, "uploads", "a.txt", endless(), content_type="text/plain")
        )
        await begun.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert await paths(store, ANN) == []
        assert await misfits(store) == []

    async def test_of_many_at_once_one_remains_whole(self, store: Backend) -> None:
        contents = [bytes([number]) * 100_000 for number in range(8)]
        await asyncio.gather(*(put(store, content=content) for content in contents))
        assert await read(store) in contents
        assert await paths(store, ANN) == ["a.txt"]
        assert await misfits(store) == []

    async def test_of_many_new_ones_at_once_one_wins(self, store: Backend) -> None:
        results = await asyncio.gather(
            *(put(store, overwrite=False) for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(result, PreconditionFailed) for result in results) == 7
        assert await misfits(store) == []

    async def test_needs_a_bucket_and_a_caller(self, store: Backend) -> None:
        with pytest.raises(NotFound):
            await put(store, bucket="nope")
        with pytest.raises(Unauthenticated):
            await put(store, caller=ANONYMOUS)
        assert await misfits(store) == []

    async def test_reads_go_on_while_the_file_is_replaced(self, store: Backend) -> None:
        content = os.urandom(3 * 1024 * 1024)
        await put(store, content=content)

        async def reading() -> None:
            for _ in range(10):
                assert len(await read(store)) in (len(content), len(TEN))

        async def writing() -> None:
            for _ in range(5):
                await put(store)
                await put(store, content=content)

        await asyncio.gather(reading(), reading(), writing())


class TestOpen:
    @pytest.mark.parametrize(
        ("part", "expected"),
        [
            (None, TEN),
            ((0, 0), b"0"),
            ((2, 4), b"234"),
            ((7, None), b"789"),
            ((7, 10**15), b"789"),
            ((None, 3), b"789"),
            ((None, 99), TEN),
        ],
    )
    async def test_gives_the_part_that_is_requested(
        self, store: Backend, part: ByteRange | None, expected: bytes
    ) -> None:
        await put(store)
        assert await read(store, part=part) == expected

    @pytest.mark.parametrize("part", [(10, None), (5, 4), (None, 0), (None, None), (-1, 3)])
    async def test_rejects_a_part_that_is_not_there(self, store: Backend, part: ByteRange) -> None:
        await put(store)
        with pytest.raises(RangeNotSatisfiable) as caught:
            await store.files.open(ANN, "uploads", "a.txt", part)
        assert caught.value.size == 10


OPERATIONS = ["stat", "open", "list", "put", "move", "copy", "signed_url", "delete"]


async def does(store: Backend, caller: Caller, operation: str, bucket: str) -> bool:
    """Whether the caller may do it to Ann's file; seen only, or done."""
    files = store.files
    try:
        match operation:
            case "stat":
                return await files.stat(caller, bucket, "a.txt") is not None
            case "open":
                return bool(await read(store, caller=caller, bucket=bucket))
            case "list":
                return "a.txt" in await paths(store, caller, bucket)
            case "put":
                await put(store, caller=caller, bucket=bucket, content=b"changed")
            case "move":
                await files.move(caller, bucket, "a.txt", "moved.txt")
            case "copy":
                await files.copy(caller, bucket, "a.txt", "copied.txt")
            case "signed_url":
                await files.signed_url(caller, bucket, "a.txt", timedelta(hours=1))
            case "delete":
                return await files.delete(caller, bucket, "a.txt")
    except (NotFound, Unauthenticated):
        return False
    except Forbidden:
        if await files.stat(caller, bucket, "a.txt") is None:
            raise  # what the caller does not see, is not named to them
        return False
    return True


class TestAccess:
    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("who", ["ann", "bob", "anonymous", "service"])
    @pytest.mark.parametrize("public", [False, True])
    async def test_is_the_owners_and_in_public_buckets_everyone_reads(
        self, store: Backend, operation: str, who: str, public: bool
    ) -> None:
        caller = {"ann": ANN, "bob": BOB, "anonymous": ANONYMOUS, "service": SERVICE}[who]
        await store.files.create_bucket("room", public=public)
        await put(store, bucket="room")
        owns = who in ("ann", "service")
        reads = owns or (public and operation in ("stat", "open", "list", "signed_url", "copy"))
        if who == "anonymous" and operation == "copy":
            reads = False
        assert await does(store, caller, operation, "room") is reads
        if not owns:
            assert await read(store, bucket="room") == TEN

    async def test_a_path_of_another_is_not_found(self, store: Backend) -> None:
        await put(store)
        with pytest.raises(NotFound):
            await put(store, caller=BOB, content=b"mine now")
        assert await store.files.delete(BOB, "uploads", "a.txt") is False
        assert await read(store) == TEN

    async def test_what_is_copied_is_the_copiers(self, store: Backend) -> None:
        await store.files.create_bucket("room", public=True)
        await put(store, bucket="room")
        copied = await store.files.copy(BOB, "room", "a.txt", "b.txt", to_bucket="uploads")
        assert (copied.owner_id, copied.bucket) == (BOB.user_id, "uploads")
        assert await store.files.stat(ANN, "uploads", "b.txt") is None


class TestList:
    async def test_goes_on_where_the_cursor_left_off(self, store: Backend) -> None:
        for number in range(7):
            await put(store, f"a/{number}")
        await put(store, "A/0")
        await put(store, "a%/0")
        await put(store, "a/9", caller=BOB)
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.files.list(ANN, "uploads", "a/", cursor=cursor, limit=3)
            seen += [file.path for file in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [f"a/{number}" for number in range(7)]

    async def test_takes_no_cursor_of_another_list(self, store: Backend) -> None:
        for number in range(2):
            await put(store, str(number))
        cursor = (await store.files.list(ANN, "uploads", limit=1)).next_cursor
        for caller, prefix in ((BOB, ""), (ANN, "a")):
            with pytest.raises(InvalidCursor):
                await store.files.list(caller, "uploads", prefix, cursor=cursor)


class TestMoveAndCopy:
    async def test_a_moved_file_is_the_same_file(self, store: Backend) -> None:
        await store.files.create_bucket("room", public=True)
        before = await put(store)
        after = await store.files.move(ANN, "uploads", "a.txt", "b.txt", to_bucket="room")
        assert (after.path, after.bucket, after.public) == ("b.txt", "room", True)
        assert (after.etag, after.created_at) == (before.etag, before.created_at)
        assert await store.files.stat(ANN, "uploads", "a.txt") is None
        assert await read(store, "b.txt", bucket="room") == TEN

    @pytest.mark.parametrize("operation", ["move", "copy"])
    async def test_a_taken_path_is_kept(self, store: Backend, operation: str) -> None:
        await put(store)
        await put(store, "b.txt", b"other", caller=BOB)
        with pytest.raises(Conflict):
            await getattr(store.files, operation)(ANN, "uploads", "a.txt", "b.txt")
        assert await read(store, "b.txt", caller=BOB) == b"other"
        assert await misfits(store) == []

    async def test_a_copy_lives_on_without_its_source(self, store: Backend) -> None:
        await put(store)
        await store.files.copy(ANN, "uploads", "a.txt", "b.txt")
        assert await store.files.delete(ANN, "uploads", "a.txt")
        assert await read(store, "b.txt") == TEN
        assert await misfits(store) == []

    @pytest.mark.parametrize("operation", ["move", "copy"])
    async def test_needs_a_source_and_a_bucket(self, store: Backend, operation: str) -> None:
        act = getattr(store.files, operation)
        with pytest.raises(NotFound):
            await act(ANN, "uploads", "nope", "b.txt")
        await put(store)
        with pytest.raises(NotFound):
            await act(ANN, "uploads", "a.txt", "b.txt", to_bucket="nope")


class TestDelete:
    async def test_takes_row_and_bytes(self, store: Backend) -> None:
        await put(store)
        assert await store.files.delete(ANN, "uploads", "a.txt") is True
        assert await store.files.delete(ANN, "uploads", "a.txt") is False
        with pytest.raises(NotFound):
            await store.files.open(ANN, "uploads", "a.txt")
        assert await misfits(store) == []


def signature_of(url: str) -> str:
    (signature,) = parse_qs(urlsplit(url).query)["token"]
    return signature


class TestSignedUrl:
    async def test_names_its_file_and_when_it_ends(self, store: Backend) -> None:
        await put(store, "a b.txt")
        signed = await store.files.signed_url(ANN, "uploads", "a b.txt", timedelta(hours=1))
        assert unquote(urlsplit(signed.url).path).endswith("/uploads/a b.txt")
        assert timedelta(minutes=59) < signed.expires_at - utc_now() <= timedelta(hours=1)

    @pytest.mark.requires("bound_signed_urls")
    async def test_is_good_for_its_file_alone(self, store: Backend) -> None:
        await put(store, "ä b.txt")
        signed = await store.files.signed_url(ANN, "uploads", "ä b.txt", timedelta(hours=1))
        assert unquote(urlsplit(signed.url).path) == "/files/uploads/ä b.txt"
        signature = signature_of(signed.url)
        assert store.files.signer("uploads", "ä b.txt", signature) == ANN
        for bucket, path in (("uploads", "b.txt"), ("other", "ä b.txt"), ("uploads/ä b", ".txt")):
            with pytest.raises(InvalidSignature):
                store.files.signer(bucket, path, signature)

    @pytest.mark.requires("bound_signed_urls")
    async def test_ends_when_it_says(self, store: Backend) -> None:
        await put(store)
        signed = await store.files.signed_url(ANN, "uploads", "a.txt", timedelta(seconds=-1))
        with pytest.raises(InvalidSignature, match="expired"):
            store.files.signer("uploads", "a.txt", signature_of(signed.url))

    @pytest.mark.parametrize("forged", ["", "x", "é", "A" * 54, "A" * 5000, "=" * 9])
    async def test_cannot_be_forged(self, store: Backend, forged: str) -> None:
        with pytest.raises(InvalidSignature):
            store.files.signer("uploads", "a.txt", forged)

    @pytest.mark.requires("bound_signed_urls")
    @pytest.mark.parametrize("caller", [ANN, ANONYMOUS, SERVICE], ids=lambda caller: caller.role)
    async def test_reads_as_who_signed_it(self, store: Backend, caller: Caller) -> None:
        await store.files.create_bucket("room", public=True)
        await put(store, bucket="room")
        signed = await store.files.signed_url(caller, "room", "a.txt", timedelta(hours=1))
        assert store.files.signer("room", "a.txt", signature_of(signed.url)) == caller

    @pytest.mark.requires("bound_signed_urls")
    async def test_cannot_be_changed(self, store: Backend) -> None:
        await put(store)
        signed = await store.files.signed_url(ANN, "uploads", "a.txt", timedelta(hours=1))
        signature = signature_of(signed.url)
        for at, message in enumerate(signature):
            changed = signature[:at] + ("B" if message == "A" else "A") + signature[at + 1 :]
            with pytest.raises(InvalidSignature):
                store.files.signer("uploads", "a.txt", changed)


class TestBuckets:
    async def test_uploads_is_there_from_the_start_and_private(self, store: Backend) -> None:
        uploads = await store.files.bucket("uploads")
        assert uploads is not None
        assert (uploads.public, uploads.file_size_limit, uploads.allowed_types) == (False, None, ())

    async def test_are_created_changed_listed_and_deleted(self, store: Backend) -> None:
        rules = {"public": True, "file_size_limit": 10, "allowed_types": ("image/*",)}
        made = await store.files.create_bucket("room", **rules)  # type: ignore[arg-type]
        assert await store.files.bucket("room") == made
        assert [bucket.id for bucket in await store.files.buckets()] == ["room", "uploads"]
        changed = await store.files.update_bucket(
            "room", public=False, file_size_limit=None, allowed_types=()
        )
        assert (changed.public, changed.file_size_limit, changed.allowed_types) == (False, None, ())
        assert await store.files.delete_bucket("room") is True
        assert await store.files.delete_bucket("room") is False
        with pytest.raises(NotFound):
            await store.files.update_bucket(
                "room", public=False, file_size_limit=None, allowed_types=()
            )

    async def test_a_name_is_taken_once(self, store: Backend) -> None:
        with pytest.raises(Conflict):
            await store.files.create_bucket("uploads")

    async def test_one_with_files_stays(self, store: Backend) -> None:
        await put(store)
        with pytest.raises(ForeignKeyViolation):
            await store.files.delete_bucket("uploads")
        assert await store.files.bucket(str(uuid4())) is None
