"""Supabase's client for Python walks through all its calls of Storage."""

import asyncio
import inspect
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from storage3.exceptions import StorageApiError
from supabase import AsyncClientOptions, ClientOptions, acreate_client, create_client
from tests.gateway.storage.api import ANN, BOB, OWN_FOLDER, SERVICE, TEN, Api

Connect = Callable[..., Awaitable[Any]]


async def do(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call the client, whether it is the one that waits or the one that is awaited."""
    if inspect.iscoroutinefunction(call):
        return await call(*arguments, **named)
    return await asyncio.to_thread(call, *arguments, **named)


@pytest.fixture
async def connect(api: Api) -> AsyncIterator[Connect]:
    """Gives the client's part for files, signed in by a token."""
    async with AsyncExitStack() as stack:

        async def connected(kind: str, token: str = SERVICE) -> Any:
            if kind == "async":
                http = await stack.enter_async_context(httpx.AsyncClient())
                options = AsyncClientOptions(httpx_client=http)
                return (await acreate_client(api.url, token, options)).storage
            own = stack.enter_context(httpx.Client())
            return create_client(api.url, token, ClientOptions(httpx_client=own)).storage

        yield connected


async def fault(call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[str, str, str]:
    """What the client says of an error."""
    with pytest.raises(StorageApiError) as caught:
        await do(call, *arguments, **named)
    error: Any = caught.value
    return str(error.status), error.code, error.message


both = pytest.mark.parametrize("kind", ["async", "sync"])


@both
async def test_buckets(api: Api, connect: Connect, kind: str) -> None:
    client = await connect(kind)
    rules = {"public": True, "file_size_limit": 100, "allowed_mime_types": ["text/plain"]}
    created = await do(client.create_bucket, "b", options=rules)
    assert getattr(created, "name", None) == "b" or created == {"name": "b"}
    bucket = await do(client.get_bucket, "b")
    assert (bucket.id, bucket.name, bucket.public) == ("b", "b", True)
    assert (bucket.file_size_limit, bucket.allowed_mime_types) == (100, ["text/plain"])
    await do(client.update_bucket, "b", {"public": False})
    assert not (await do(client.get_bucket, "b")).public
    assert [each.id for each in await do(client.list_buckets)] == ["b"]
    await api.uploaded("b/a.txt")
    not_empty = "The bucket you tried to delete is not empty"
    assert (await fault(client.delete_bucket, "b"))[::2] == ("409", not_empty)
    await do(client.empty_bucket, "b")
    await do(client.delete_bucket, "b")
    gone = ("404", "Bucket not found", "Bucket not found")
    assert await fault(client.get_bucket, "b") == gone
    await do(client.create_bucket, "b")
    taken = ("409", "Duplicate", "The resource already exists")
    assert await fault(client.create_bucket, "b") == taken


@both
async def test_files(api: Api, connect: Connect, kind: str, tmp_path: Path) -> None:
    await api.bucket()
    files = (await connect(kind)).from_("b")
    (tmp_path / "c.bin").write_bytes(b"of a path")
    options = {
        "content-type": "text/x",
        "cache-control": "60",
        "upsert": "true",
        "metadata": {"by": "Ann"},
    }
    sent = await do(files.upload, "x/a.txt", TEN, options)
    assert (sent.path, sent.full_path) == ("x/a.txt", "b/x/a.txt")
    await do(files.upload, "x/b.txt", io.BufferedReader(io.BytesIO(b"of a stream")))
    await do(files.upload, "c.bin", tmp_path / "c.bin")
    assert await do(files.download, "x/b.txt") == b"of a stream"
    assert await do(files.download, "c.bin") == b"of a path"
    assert await do(files.download, "x/a.txt", query_params={"a": "b"}) == TEN

    info = await do(files.info, "x/a.txt")
    assert (info["size"], info["content_type"]) == (10, "text/x")
    assert (info["cache_control"], info["metadata"]) == ("max-age=60", {"by": "Ann"})
    assert await do(files.exists, "x/a.txt")
    assert not await do(files.exists, "nope")
    taken = ("409", "Duplicate", "The resource already exists")
    assert await fault(files.upload, "x/a.txt", b"new") == taken
    await do(files.update, "x/a.txt", b"newer")
    assert await do(files.download, "x/a.txt") == b"newer"

    listed = await do(files.list)
    assert [(each["name"], each["id"] is None) for each in listed] == [
        ("c.bin", False),
        ("x", True),
    ]
    listing = {"limit": 1, "offset": 1, "sortBy": {"column": "name", "order": "desc"}}
    assert [each["name"] for each in await do(files.list, "x", listing)] == ["a.txt"]
    page = await do(files.list_v2, {"with_delimiter": True, "limit": 1})
    assert (page.hasNext, [each.name for each in page.objects]) == (True, ["c.bin"])
    page = await do(files.list_v2, {"with_delimiter": True, "cursor": page.nextCursor})
    assert (page.hasNext, [each.name for each in page.folders]) == (False, ["x/"])

    await do(files.move, "c.bin", "x/c.bin")
    await do(files.copy, "x/c.bin", "d.bin")
    assert await do(files.download, "d.bin") == b"of a path"
    missing = ("404", "not_found", "Object not found")
    assert await fault(files.move, "nope", "y") == missing
    assert await fault(files.copy, "nope", "y") == missing
    assert await fault(files.download, "c.bin") == missing
    removed = await do(files.remove, ["x/a.txt", "x/b.txt", "nope"])
    assert sorted(each["name"] for each in removed) == ["x/a.txt", "x/b.txt"]
    assert await do(files.remove, ["nope"]) == []


@both
async def test_urls(api: Api, connect: Connect, kind: str) -> None:
    await api.bucket(public=True)
    client = await connect(kind)
    files = client.from_("b")
    await do(files.upload, "x y/a+b.txt", TEN)
    public = await do(files.get_public_url, "x y/a+b.txt", {"download": "saved.txt"})
    one = await do(files.create_signed_url, "x y/a+b.txt", 60, {"download": True})
    many = await do(files.create_signed_urls, ["x y/a+b.txt", "nope"], 60)
    assert [each["error"] is None for each in many] == [True, False]
    async with httpx.AsyncClient() as anybody:
        for url in (public, one["signedUrl"], many[0]["signedURL"]):
            response = await anybody.get(url)
            assert (response.status_code, response.content) == (200, TEN), url
        saved = await anybody.get(public)
        assert "filename=saved.txt" in saved.headers["content-disposition"]
    signed = await do(files.create_signed_upload_url, "new.txt")
    sent = await do(files.upload_to_signed_url, signed["path"], signed["token"], b"signed")
    assert sent.full_path == "b/new.txt"
    assert await do(files.download, "new.txt") == b"signed"
    assert (await fault(files.create_signed_url, "nope", 60))[1] == "not_found"


@both
async def test_another_user_sees_and_changes_nothing(api: Api, connect: Connect, kind: str) -> None:
    await api.bucket("mine")
    api.rows(OWN_FOLDER)
    anns = (await connect(kind, api.token(ANN))).from_("mine")
    bobs = (await connect(kind, api.token(BOB))).from_("mine")
    name = f"{ANN}/secret.txt"
    await do(anns.upload, name, TEN)
    assert await do(anns.download, name) == TEN
    hidden = ("403", "Unauthorized", "new row violates row-level security policy")
    missing = ("404", "not_found", "Object not found")
    assert await fault(bobs.download, name) == missing
    assert await fault(bobs.create_signed_url, name, 60) == missing
    assert await fault(bobs.upload, name, b"x", {"upsert": "true"}) == hidden
    assert await fault(bobs.update, name, b"x") == hidden
    assert await fault(bobs.create_signed_upload_url, f"{ANN}/new") == hidden
    assert await do(bobs.list, str(ANN)) == await do(bobs.remove, [name]) == []
    assert not await do(bobs.exists, name)
    assert await do(anns.download, name) == TEN
