"""/files over HTTP, on every backend."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from fastapi import FastAPI
from tests.backends import ONE_DATABASE
from tests.conftest import settings_on

from amphibase import Settings
from amphibase.services.files import FileService
from amphibase.testing.client import Client

TEN = b"0123456789"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(100)


@pytest.fixture(params=[*ONE_DATABASE, "supabase"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with settings_on(request.param, request, tmp_path) as opened:
        yield opened


@pytest.fixture
async def ann(client: Client) -> Client:
    return await client.as_user("ann@example.com")


@pytest.fixture
async def bob(client: Client) -> Client:
    return await client.as_user("bob@example.com")


@pytest.fixture
async def root(client: Client) -> Client:
    return await client.as_user("root@example.com", admin=True)


async def put(client: Client, path: str = "a.txt", content: bytes = TEN) -> Any:
    response = await client.put(f"/files/uploads/{quote(path)}", content=content)
    assert response.status_code == 201, response.text
    return response.json()


class TestForm:
    async def test_stores_the_file_under_a_path_of_its_own(self, ann: Client) -> None:
        form = {"file": ("../ä b.png", PNG, "image/png")}
        response = await ann.post("/files", files=form)
        assert response.status_code == 201, response.text
        file = response.json()
        assert file["path"].endswith("/ä b.png")
        assert file["path"].count("/") == 1
        assert {
            "bucket": "uploads",
            "file_name": "ä b.png",
            "size": len(PNG),
            "content_type": "image/png",
            "owner_id": str(ann.user.id),
            "public_url": None,
        }.items() <= file.items()
        assert set(file) >= {"etag", "created_at"}
        again = (await ann.post("/files", files=form)).json()
        assert again["path"] != file["path"]
        read = await ann.get(f"/files/uploads/{quote(file['path'])}")
        assert (read.content, read.headers["content-type"]) == (PNG, "image/png")

    @pytest.mark.parametrize("late", [False, True])
    async def test_goes_to_the_bucket_of_the_form(
        self, ann: Client, root: Client, late: bool
    ) -> None:
        """Whether bucket and path come before the file, as scripts send them, or after it."""
        await root.post("/files/buckets", json={"id": "room", "public": True})
        where = [("bucket", (None, "room")), ("path", (None, "x/y.txt"))]
        file = [("file", ("a.txt", TEN, "text/plain"))]
        form: Any = [*file, *where] if late else [*where, *file]
        response = await ann.post("/files", files=form)
        assert response.status_code == 201, response.text
        stored = response.json()
        assert (stored["bucket"], stored["path"]) == ("room", "x/y.txt")
        assert urlsplit(stored["public_url"]).path.endswith("/room/x/y.txt")
        assert (await ann.get("/files")).json()["items"] == []
        taken = await ann.post("/files", files=form)
        assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
        assert (await ann.get("/files")).json()["items"] == []

    async def test_keeps_bytes_that_look_like_a_boundary(self, ann: Client) -> None:
        content = b"\r\n--x\r\n--xx--\r\n\r\n--" * 5000
        body = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            + content.replace(b"--x", b"--y")
            + b"\r\n--x--\r\n"
        )
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        stored = (await ann.post("/files", content=body, headers=headers)).json()
        read = await ann.get(f"/files/uploads/{stored['path']}")
        assert read.content == content.replace(b"--x", b"--y")


class TestPut:
    async def test_makes_and_replaces(self, ann: Client) -> None:
        first = await put(ann)
        response = await ann.put("/files/uploads/a.txt", content=b"new")
        assert response.status_code == 200
        assert response.json()["etag"] != first["etag"]
        assert response.headers["etag"] == f'"{response.json()["etag"]}"'
        assert (await ann.get("/files/uploads/a.txt")).content == b"new"

    async def test_replaces_nothing_when_told_so(self, ann: Client) -> None:
        await put(ann)
        response = await ann.put(
            "/files/uploads/a.txt", content=b"new", headers={"If-None-Match": "*"}
        )
        assert (response.status_code, response.json()["code"]) == (412, "precondition_failed")
        assert (await ann.get("/files/uploads/a.txt")).content == TEN

    async def test_finds_out_what_the_bytes_are(self, ann: Client) -> None:
        assert (await put(ann, "picture", PNG))["content_type"] == "image/png"
        assert (await put(ann, "words.txt", TEN))["content_type"] == "text/plain"
        assert (await put(ann, "odd", b"\x00\x01\x02" * 9))["content_type"] == (
            "application/octet-stream"
        )
        assert (await put(ann, "lie.png", TEN))["content_type"] == "text/plain"

    async def test_names_that_unicode_writes_in_two_ways_are_one(self, ann: Client) -> None:
        await put(ann, "a\u0308.txt")
        assert (await ann.put("/files/uploads/ä.txt", content=b"new")).status_code == 200
        assert (await ann.get("/files/uploads/" + quote("a\u0308.txt"))).content == b"new"
        assert [file["path"] for file in (await ann.get("/files")).json()["items"]] == ["ä.txt"]

    async def test_holds_many_megabytes(self, ann: Client) -> None:
        content = os.urandom(5 * 1024 * 1024 + 1)
        await put(ann, "big", content)
        assert (await ann.get("/files/uploads/big")).content == content


class TestRead:
    async def test_says_what_a_cache_and_a_browser_need(self, ann: Client) -> None:
        file = await put(ann)
        response = await ann.get("/files/uploads/a.txt")
        assert response.headers["etag"] == f'"{file["etag"]}"'
        assert response.headers["content-length"] == "10"
        assert response.headers["content-disposition"] == 'inline; filename="a.txt"'
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["accept-ranges"] == "bytes"
        assert response.headers["cache-control"] == "private, no-cache"
        head = await ann.head("/files/uploads/a.txt")
        assert (head.status_code, head.content) == (200, b"")
        for name in ("etag", "content-length", "content-type", "content-disposition"):
            assert head.headers[name] == response.headers[name]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_sends_nothing_that_is_known(self, ann: Client, method: str) -> None:
        etag = f'"{(await put(ann))["etag"]}"'
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            headers = {"If-None-Match": known}
            response = await ann.request(method, "/files/uploads/a.txt", headers=headers)
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["etag"] == etag
        headers = {"If-None-Match": '"other"'}
        response = await ann.request(method, "/files/uploads/a.txt", headers=headers)
        assert response.status_code == 200

    @pytest.mark.parametrize(
        ("asked", "content", "span"),
        [
            ("bytes=0-0", b"0", "0-0"),
            ("bytes=2-4", b"234", "2-4"),
            ("bytes=7-", b"789", "7-9"),
            ("bytes=-3", b"789", "7-9"),
            ("bytes=5-999", b"56789", "5-9"),
            ("bytes=5-99999999999999999999", b"56789", "5-9"),
            ("bytes=-99999999999999999999", TEN, "0-9"),
        ],
    )
    async def test_sends_a_part(self, ann: Client, asked: str, content: bytes, span: str) -> None:
        await put(ann)
        response = await ann.get("/files/uploads/a.txt", headers={"Range": asked})
        assert (response.status_code, response.content) == (206, content)
        assert response.headers["content-range"] == f"bytes {span}/10"
        assert response.headers["content-length"] == str(len(content))

    @pytest.mark.parametrize("asked", ["lines=1-2", "bytes=0-1,4-5"])
    async def test_sends_all_where_parts_are_not_offered(self, ann: Client, asked: str) -> None:
        await put(ann)
        response = await ann.get("/files/uploads/a.txt", headers={"Range": asked})
        assert (response.status_code, response.content) == (200, TEN)

    async def test_sends_all_when_the_part_is_of_older_bytes(self, ann: Client) -> None:
        etag = (await put(ann))["etag"]
        for condition, status in ((f'"{etag}"', 206), ('"older"', 200)):
            headers = {"Range": "bytes=0-1", "If-Range": condition}
            response = await ann.get("/files/uploads/a.txt", headers=headers)
            assert response.status_code == status

    async def test_sends_all_of_what_has_just_replaced_the_older_bytes(
        self, ann: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        etag = (await put(ann))["etag"]
        look = FileService.stat

        async def look_and_replace(*asked: Any) -> Any:
            found = await look(*asked)
            await ann.put("/files/uploads/a.txt", content=b"abcdefghij")
            return found

        monkeypatch.setattr(FileService, "stat", look_and_replace)
        headers = {"Range": "bytes=5-", "If-Range": f'"{etag}"'}
        response = await ann.get("/files/uploads/a.txt", headers=headers)
        assert (response.status_code, response.content) == (200, b"abcdefghij")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.html", b"<html><script>alert(1)</script>"),
            ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
            ("a.js", b"alert(1)"),
        ],
    )
    async def test_lets_no_browser_run_what_was_uploaded(
        self, ann: Client, name: str, content: bytes
    ) -> None:
        await put(ann, name, content)
        response = await ann.get(f"/files/uploads/{name}")
        assert response.headers["content-disposition"].startswith("attachment; ")
        assert "sandbox" in response.headers["content-security-policy"]

    async def test_no_name_breaks_out_of_its_header(self, ann: Client) -> None:
        name = 'a";filename=evil.exe;x="ü.txt'
        await put(ann, name)
        response = await ann.get(f"/files/uploads/{quote(name)}?download=true")
        assert response.headers["content-disposition"] == (
            'attachment; filename="a_;filename=evil.exe;x=__.txt"; '
            f"filename*=UTF-8''{quote(name, safe='')}"
        )


class TestOthers:
    async def test_do_not_see_a_private_file(
        self, ann: Client, bob: Client, client: Client
    ) -> None:
        await put(ann)
        moves = {"bucket": "uploads", "path": "a.txt", "to_path": "b.txt"}
        for other in (bob, client):
            for method in ("GET", "HEAD", "DELETE"):
                response = await other.request(method, "/files/uploads/a.txt")
                assert response.status_code == 404
            sign = await other.post("/files/sign", json={"bucket": "uploads", "path": "a.txt"})
            assert sign.status_code == 404
            assert (await other.get("/files")).json()["items"] == []
            for action in ("move", "copy"):
                response = await other.post(f"/files/{action}", json=moves)
                assert response.status_code == (404 if other is bob else 401)
            response = await other.put("/files/uploads/a.txt", content=b"mine")
            assert response.status_code == (404 if other is bob else 401)
        assert (await ann.get("/files/uploads/a.txt")).content == TEN

    async def test_read_in_a_public_bucket_and_change_nothing(
        self, ann: Client, bob: Client, client: Client, root: Client
    ) -> None:
        await root.post("/files/buckets", json={"id": "room", "public": True})
        stored = (await ann.put("/files/room/a.txt", content=TEN)).json()
        path = "/files/room/a.txt"
        assert urlsplit(stored["public_url"]).path.endswith("/room/a.txt")
        assert (await client.get(path)).content == TEN
        assert (await client.get(path)).headers["cache-control"] == "public, no-cache"
        listed = (await client.get("/files", params={"bucket": "room"})).json()["items"]
        assert listed == [stored]
        assert (await bob.delete(path)).status_code == 403
        assert (await bob.put(path, content=b"x")).status_code == 403
        assert (await client.delete(path)).status_code == 401
        assert (await client.get(path)).content == TEN


@pytest.fixture
def bound_signed_urls(app: FastAPI, client: Client) -> None:
    """Skip a test of signed URLs where the application does not serve them itself."""
    capabilities = app.state.amphibase.state.backend.capabilities
    if not capabilities.bound_signed_urls:
        pytest.skip(f"{capabilities.backend} has no bound_signed_urls")


@pytest.mark.usefixtures("bound_signed_urls")
class TestSign:
    async def test_opens_the_file_without_a_token(self, ann: Client, client: Client) -> None:
        await put(ann, "ä b.txt")
        body = {"bucket": "uploads", "path": "ä b.txt", "expires_in": 60}
        signed = (await ann.post("/files/sign", json=body)).json()
        url = urlsplit(signed["url"])
        assert (await client.get(f"{url.path}?{url.query}")).content == TEN
        part = await client.get(f"{url.path}?{url.query}", headers={"Range": "bytes=0-1"})
        assert part.content == b"01"
        assert (await client.head(f"{url.path}?{url.query}")).headers["content-length"] == "10"
        assert (await client.delete(f"{url.path}?{url.query}")).status_code == 404
        await put(ann, "b.txt")
        other = await client.get(f"/files/uploads/b.txt?{url.query}")
        assert (other.status_code, other.json()["code"]) == (403, "invalid_signature")

    async def test_does_not_open_what_another_stores_there_later(
        self, ann: Client, bob: Client, client: Client
    ) -> None:
        await put(ann)
        body = {"bucket": "uploads", "path": "a.txt"}
        url = urlsplit((await ann.post("/files/sign", json=body)).json()["url"])
        await ann.delete("/files/uploads/a.txt")
        await put(bob, content=b"bob's own")
        assert (await client.get(f"{url.path}?{url.query}")).status_code == 404


class TestList:
    async def test_goes_on_with_the_cursor(self, ann: Client) -> None:
        for number in range(5):
            await put(ann, f"a/{number}")
        await put(ann, "b")
        seen = []
        cursor = None
        while True:
            body = {"prefix": "a/", "limit": "2", **({"cursor": cursor} if cursor else {})}
            page = (await ann.get("/files", params=body)).json()
            seen += [file["path"] for file in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == [f"a/{number}" for number in range(5)]


class TestMoveCopyDelete:
    async def test_do_what_they_say(self, ann: Client) -> None:
        await put(ann)
        body = {"bucket": "uploads", "path": "a.txt", "to_path": "b/c.txt"}
        copied = await ann.post("/files/copy", json=body)
        assert (copied.status_code, copied.json()["path"]) == (201, "b/c.txt")
        taken = await ann.post("/files/move", json=body)
        assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
        moved = await ann.post("/files/move", json=body | {"to_path": "d.txt"})
        assert (moved.status_code, moved.json()["file_name"]) == (200, "d.txt")
        assert (await ann.delete("/files/uploads/d.txt")).status_code == 204
        assert (await ann.delete("/files/uploads/d.txt")).status_code == 404
        assert [file["path"] for file in (await ann.get("/files")).json()["items"]] == ["b/c.txt"]


class TestBuckets:
    async def test_are_for_administrators(self, ann: Client, client: Client, root: Client) -> None:
        assert (await client.get("/files/buckets")).status_code == 401
        assert (await ann.get("/files/buckets")).status_code == 403
        assert (await ann.post("/files/buckets", json={"id": "x"})).status_code == 403
        assert (await root.get("/files/buckets")).status_code == 200

    async def test_are_created_changed_and_deleted(self, root: Client) -> None:
        response = await root.post(
            "/files/buckets", json={"id": "room", "allowed_types": ["image/*"]}
        )
        assert response.status_code == 201
        again = await root.post("/files/buckets", json={"id": "room"})
        assert (again.status_code, again.json()["code"]) == (409, "conflict")
        changed = await root.patch("/files/buckets/room", json={"file_size_limit": 5})
        assert changed.json()["allowed_types"] == ["image/*"]
        assert changed.json()["file_size_limit"] == 5
        assert (await root.get("/files/buckets/room")).json() == changed.json()
        names = [bucket["id"] for bucket in (await root.get("/files/buckets")).json()["items"]]
        assert names == ["room", "uploads"]
        await put(root)
        assert (await root.delete("/files/buckets/uploads")).status_code == 409
        assert (await root.delete("/files/buckets/room")).status_code == 204
        assert (await root.delete("/files/buckets/room")).status_code == 404

    async def test_rules_hold_for_all_that_comes_in(self, ann: Client, root: Client) -> None:
        rules = {"id": "room", "file_size_limit": 50, "allowed_types": ["text/*"]}
        await root.post("/files/buckets", json=rules)
        assert (await ann.put("/files/room/a.txt", content=TEN)).status_code == 201
        assert (await ann.put("/files/room/b.txt", content=TEN * 6)).status_code == 413
        assert (await ann.put("/files/room/c.png", content=PNG[:40])).status_code == 415
        await put(ann, "big.txt", TEN * 6)
        await put(ann, "c.png", PNG[:40])
        for path, status in (("big.txt", 413), ("c.png", 415)):
            for action in ("move", "copy"):
                body = {"bucket": "uploads", "path": path, "to_path": path, "to_bucket": "room"}
                response = await ann.post(f"/files/{action}", json=body)
                assert response.status_code == status


def test_every_route_is_documented(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    form = paths["/files"]["post"]["requestBody"]["content"]
    assert list(form) == ["multipart/form-data"]
    assert set(paths["/files/{bucket}/{path}"]) == {"get", "head", "put", "delete"}
