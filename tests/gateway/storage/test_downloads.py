"""Reading files: ranges, caching, and headers that keep a browser from running them."""

import hashlib
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from tests.gateway.storage.api import ANON, TEN, Api, no_bucket, no_object, rejection

from amphibase.blobs.disk import DiskBlobs

DIGEST = f'"{hashlib.md5(TEN).hexdigest()}"'


async def test_a_file_comes_with_what_is_known_of_it(api: Api) -> None:
    await api.bucket()
    await api.uploaded(cache_control="max-age=60")
    response = await api.get("/object/b/a.txt")
    assert (response.status_code, response.content) == (200, TEN)
    expected = {
        "content-type": "text/plain",
        "content-length": "10",
        "etag": DIGEST,
        "cache-control": "max-age=60",
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
    }
    assert expected.items() <= dict(response.headers).items()
    assert response.headers["last-modified"].endswith("GMT")
    head = await api.head("/object/b/a.txt")
    assert (head.status_code, head.content) == (200, b"")
    assert expected.items() <= dict(head.headers).items()


@pytest.mark.parametrize(
    ("asked", "status", "content", "span"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=5-4", 416, None, "bytes */10"),
        ("bytes=x", 416, None, "bytes */10"),
        ("lines=1-2", 200, TEN, None),
        ("bytes=0-1,3-4", 200, TEN, None),
    ],
)
async def test_a_part_can_be_requested(
    api: Api, asked: str, status: int, content: bytes | None, span: str | None
) -> None:
    await api.bucket()
    await api.uploaded()
    response = await api.get("/object/b/a.txt", headers={"range": asked})
    assert (response.status_code, response.headers.get("content-range")) == (status, span)
    if content is None:
        assert rejection(response)[1] == "416"
        assert "cache-control" not in response.headers
    else:
        assert response.content == content


async def test_who_has_a_file_is_not_sent_it_again(api: Api) -> None:
    await api.bucket()
    await api.uploaded()
    modified = (await api.get("/object/b/a.txt")).headers["last-modified"]
    early = "Mon, 01 Jan 2001 00:00:00 GMT"
    for headers, status in [
        ({"if-none-match": DIGEST}, 304),
        ({"if-none-match": f'"other", W/{DIGEST}'}, 304),
        ({"if-none-match": '"other"'}, 200),
        ({"if-modified-since": modified}, 304),
        ({"if-modified-since": early}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-none-match": '"other"', "if-modified-since": modified}, 200),
        ({"range": "bytes=0-1", "if-range": '"other"'}, 200),
    ]:
        response = await api.get("/object/b/a.txt", headers=headers)
        assert response.status_code == status, headers
        assert response.content == (b"" if status == 304 else TEN)
        assert response.headers["etag"] == DIGEST
        is_newer = headers.get("if-none-match", DIGEST) != DIGEST
        assert ("stale-while-revalidate=30" in response.headers["cache-control"]) == is_newer


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", None),
        ("?download", "attachment;"),
        ("?download=", "attachment;"),
        (
            "?download=%C3%A4%22%0D%0AX:%201.txt",
            "attachment; filename=%C3%A4%22%0D%0AX%3A%201.txt; "
            "filename*=UTF-8''%C3%A4%22%0D%0AX%3A%201.txt",
        ),
        (
            "?download=rye%20%281%29%21%2A%27~%3B.txt",
            "attachment; filename=rye%20(1)!*'~%3B.txt; filename*=UTF-8''rye%20(1)!*'~%3B.txt",
        ),
    ],
)
async def test_a_file_can_be_saved_under_a_name(api: Api, query: str, expected: str | None) -> None:
    await api.bucket()
    await api.uploaded()
    response = await api.get(f"/object/b/a.txt{query}")
    assert response.headers.get("content-disposition") == expected


async def test_a_file_of_a_public_bucket_is_read_by_any_valid_token(api: Api) -> None:
    await api.bucket(public=True)
    await api.bucket("private")
    await api.uploaded("b/a.txt", "private/a.txt")
    for call in ("/object/authenticated", "/object/info/authenticated", "/object"):
        assert (await api.get(f"{call}/b/a.txt", token=ANON)).status_code == 200
        assert rejection(await api.get(f"{call}/private/a.txt", token=ANON))[1] == "404"
        assert rejection(await api.get(f"{call}/nope/a.txt", token=ANON))[1] == "404"
    forged = await api.get("/object/authenticated/b/a.txt", token=ANON[:-4] + "AAAA")
    assert rejection(forged)[1] == "403"


async def test_pages_that_people_upload_do_not_run(api: Api) -> None:
    await api.bucket(public=True)
    await api.uploaded("b/a.html", kind="text/html;charset=utf-8")
    await api.uploaded("b/a.svg", kind="image/svg+xml")
    page = await api.get("/object/public/b/a.html", token=None)
    assert page.headers["content-type"] == "text/plain"
    image = await api.get("/object/public/b/a.svg", token=None)
    assert image.headers["content-type"] == "image/svg+xml"
    for response in (page, image):
        assert "sandbox" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_everyone_reads_what_is_in_a_public_bucket_and_nothing_else(api: Api) -> None:
    await api.bucket("open", public=True)
    await api.bucket("shut")
    await api.uploaded("open/a.txt", "shut/a.txt")
    for token in (None, ANON, "no token at all"):
        for path in ("/object/public/open/a.txt", "/object/open/a.txt"):
            assert (await api.get(path, token=token)).content == TEN
            assert (await api.head(path, token=token)).status_code == 200
        assert (await api.get("/object/info/public/open/a.txt", token=token)).json()["size"] == 10
        assert (await api.get("/object/info/open/a.txt", token=token)).json()["size"] == 10
        for path in ("/object/public/shut/a.txt", "/object/info/public/shut/a.txt"):
            assert rejection(await api.get(path, token=token)) == no_bucket()
    for path in ("/object/shut/a.txt", "/object/info/shut/a.txt"):
        assert rejection(await api.get(path, token=None)) == no_bucket()
        assert rejection(await api.get(path, token=ANON)) == no_object()
    assert rejection(await api.get("/object/public/open/b.txt", token=None)) == no_object()
    assert (await api.head("/object/shut/a.txt", token=ANON)).status_code == 400


async def test_a_row_that_names_no_bytes_is_no_file(api: Api) -> None:
    await api.bucket()
    api.rows("INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES ('b', 'x', 'me')")
    assert rejection(await api.get("/object/b/x")) == no_object()
    assert (await api.get("/object/info/b/x")).json()["size"] is None
    assert await api.names() == ["x"]
    assert (await api.delete("/object/b/x")).status_code == 200


async def test_a_large_file_comes_whole(api: Api) -> None:
    await api.bucket()
    content = bytes(range(256)) * 40_000
    await api.uploaded("b/large", content=content)
    response = await api.get("/object/b/large")
    assert response.content == content
    part = await api.get("/object/b/large", headers={"range": "bytes=5000000-8000000"})
    assert part.content == content[5_000_000:8_000_001]


async def test_a_file_that_is_replaced_while_it_is_opened_is_the_new_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.bucket()
    await api.uploaded()
    read = DiskBlobs.read

    async def late(self: DiskBlobs, version: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        monkeypatch.setattr(DiskBlobs, "read", read)
        await api.uploaded(content=b"the new bytes", x_upsert="true", kind="text/new")
        return await read(self, version, start, stop)

    monkeypatch.setattr(DiskBlobs, "read", late)
    response = await api.get("/object/b/a.txt")
    assert (response.status_code, response.content) == (200, b"the new bytes")
    assert response.headers["content-type"] == "text/new"


@pytest.mark.parametrize(
    "metadata",
    [
        '{"size": 10, "eTag": "a\\r\\nSet-Cookie: b"}',
        '{"size": 10, "eTag": "\\u4e2d"}',
        '{"size": 10, "eTag": "a\\"b"}',
        '{"size": 10, "lastModified": "0001-01-01T00:00:00+14:00"}',
        '{"size": 10, "mimetype": "text/x\\r\\ny: z", "cacheControl": "x\\r\\ny: z"}',
    ],
)
async def test_what_others_wrote_into_a_row_breaks_no_header(api: Api, metadata: str) -> None:
    await api.bucket()
    await api.uploaded()
    api.rows("UPDATE storage.objects SET metadata = %s::jsonb", metadata)
    ((id, version),) = api.rows("SELECT id::text, version FROM storage.objects")
    for response in (
        await api.get("/object/b/a.txt"),
        await api.head("/object/b/a.txt"),
        await api.get("/object/info/b/a.txt"),
    ):
        assert response.status_code == 200
        assert response.headers["etag"] == f'"{id if "eTag" in metadata else version}"'
        assert not response.headers.keys() & {"set-cookie", "y"}
