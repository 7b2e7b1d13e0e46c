"""Uploads that go on after a cut connection, as Supabase's clients send them."""

import asyncio
import base64
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.gateway.storage.api import (
    ANN,
    ANON,
    BOB,
    OWN_FOLDER,
    SERVICE,
    TEN,
    Api,
    rejection,
)
from tests.gateway.storage.conftest import ServeStorage
from tests.tus_client import CuttingProxy, installed, upload

VERSION = {"tus-resumable": "1.0.0"}
PART = {**VERSION, "content-type": "application/offset+octet-stream"}
UPLOADS = "/upload/resumable"


def metadata(**values: str) -> dict[str, str]:
    pairs = (
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items()
    )
    return {"upload-metadata": ",".join(pairs)}


def path_of(url: str) -> str:
    """The path of an upload, below Storage's own."""
    return urlsplit(url).path.removeprefix("/storage/v1")


async def begin(
    api: Api,
    name: str = "a.txt",
    size: int = 10,
    *,
    bucket: str = "b",
    token: str | None = SERVICE,
    call: str = UPLOADS,
    headers: dict[str, str] | None = None,
    **said: str,
) -> httpx.Response:
    sent = {
        **VERSION,
        "upload-length": str(size),
        **metadata(bucketName=bucket, objectName=name, **said),
        **(headers or {}),
    }
    return await api.post(call, headers=sent, token=token)


async def send(
    api: Api, url: str, offset: int, content: bytes, *, token: str | None = SERVICE, **more: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    headers = {**PART, "upload-offset": str(offset), **named}
    url = path_of(url)
    return await api.call("PATCH", url, content=content, headers=headers, token=token)


async def offset(api: Api, url: str, token: str | None = SERVICE, **more: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    url = path_of(url)
    return await api.head(url, headers={**VERSION, **named}, token=token)


async def test_the_size_may_be_declared_with_the_last_part(serve: ServeStorage) -> None:
    api = await serve(file_size_limit=20)
    await api.bucket()
    named = metadata(bucketName="b", objectName="a.txt", contentType="text/plain")
    begun = await api.post(
        UPLOADS, headers={**VERSION, "upload-defer-length": "1", **named}, token=SERVICE
    )
    assert begun.status_code == 201, begun.text
    url = begun.headers["location"]
    assert (await send(api, url, 0, TEN)).headers["upload-offset"] == "10"
    head = await offset(api, url)
    assert (head.headers["upload-defer-length"], "upload-length" in head.headers) == ("1", False)
    too_large = await send(api, url, 10, b"", upload_length="21")
    assert (too_large.status_code, too_large.text) == (413, "Maximum size exceeded\n")
    assert (await send(api, url, 10, b"end", upload_length="13")).status_code == 204
    assert (await api.get("/object/b/a.txt", token=SERVICE)).content == TEN + b"end"
    named = metadata(bucketName="b", objectName="b.txt")
    begun = await api.post(
        UPLOADS, headers={**VERSION, "upload-defer-length": "1", **named}, token=SERVICE
    )
    assert (await send(api, begun.headers["location"], 0, TEN * 3)).status_code == 413


async def test_parts_become_a_file_when_all_have_come(api: Api) -> None:
    await api.bucket()
    begun = await begin(
        api, "x/a.txt", contentType="text/plain", cacheControl="60", metadata='{"by": "Ann"}'
    )
    assert begun.status_code == 201
    url = begun.headers["location"]
    assert url.startswith(f"{api.url}/storage/v1/upload/resumable/")
    assert (await send(api, url, 0, TEN[:4])).headers["upload-offset"] == "4"
    assert await api.names() == []
    head = await offset(api, url)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("4", "10")
    last = await send(api, url, 4, TEN[4:])
    assert (last.status_code, last.headers["upload-offset"]) == (204, "10")
    assert (await api.get("/object/b/x/a.txt")).content == TEN
    info = (await api.get("/object/info/b/x/a.txt")).json()
    assert (info["content_type"], info["cache_control"]) == ("text/plain", "max-age=60")
    assert (info["metadata"], info["size"]) == ({"by": "Ann"}, 10)
    assert (await offset(api, url)).headers["upload-offset"] == "10"
    assert len([path for path in api.blobs() if path.parent.parent.name == "objects"]) == 1


async def test_the_beginning_may_carry_bytes_and_a_file_may_be_empty(api: Api) -> None:
    await api.bucket()
    headers = {**PART, "upload-length": "10", **metadata(bucketName="b", objectName="a")}
    response = await api.post(UPLOADS, content=TEN, headers=headers)
    assert (response.status_code, response.headers["upload-offset"]) == (201, "10")
    assert (await api.get("/object/b/a")).content == TEN
    assert (await begin(api, "none", 0)).status_code == 201
    assert (await api.get("/object/b/none")).content == b""


async def test_an_upload_goes_on_where_the_client_finds_the_proxy(api: Api) -> None:
    await api.bucket()
    proxy = {"x-forwarded-proto": "https", "x-forwarded-host": "files.example:8443, inner"}
    url = (await begin(api, "a", headers=proxy)).headers["location"]
    assert url.startswith("https://files.example:8443/storage/v1/upload/resumable/")
    odd = {"x-forwarded-proto": "gopher", "x-forwarded-host": "a/b"}
    assert (await begin(api, "b", headers=odd)).headers["location"].startswith("/storage/v1/")


async def test_bytes_at_another_place_are_a_conflict(api: Api) -> None:
    await api.bucket()
    url = (await begin(api, "a")).headers["location"]
    assert (await send(api, url, 0, TEN[:4])).status_code == 204
    again = await send(api, url, 0, TEN[:4])
    assert (again.status_code, again.text) == (409, "Upload-Offset conflict\n")


async def test_it_says_what_it_can(api: Api) -> None:
    for path in (UPLOADS, f"{UPLOADS}/x"):
        response = await api.call("OPTIONS", path, token=None)
        assert response.status_code == 204
        assert response.headers["tus-version"] == "1.0.0"
        assert "creation" in response.headers["tus-extension"].split(",")
        assert response.headers["tus-max-size"] == str(50 * 1024 * 1024)


async def test_a_file_is_replaced_only_on_demand(api: Api) -> None:
    await api.bucket()
    await api.uploaded()
    rejected = await begin(api)
    assert (rejected.status_code, rejected.text) == (409, "The resource already exists")
    late = (await begin(api, "b.txt")).headers["location"]
    await api.uploaded("b/b.txt", content=b"first")
    rejected = await send(api, late, 0, TEN)
    assert (rejected.status_code, rejected.text) == (409, "The resource already exists")
    begun = await begin(api, "b.txt", headers={"x-upsert": "true"})
    assert (await send(api, begun.headers["location"], 0, TEN)).status_code == 204
    assert (await api.get("/object/b/b.txt")).content == TEN


async def test_policies_decide_before_and_after_the_bytes_have_come(api: Api) -> None:
    await api.bucket("mine")
    api.rows(OWN_FOLDER)
    ann, bob = api.token(ANN), api.token(BOB)
    name = f"{ANN}/a.txt"
    for stranger in (bob, ANON):
        rejected = await begin(api, name, bucket="mine", token=stranger)
        assert rejected.status_code == 403
        assert rejected.text == "new row violates row-level security policy"
    url = (await begin(api, name, bucket="mine", token=ann)).headers["location"]
    for stranger in (bob, ANON, SERVICE):
        assert (await send(api, url, 0, TEN, token=stranger)).status_code == 404
        assert (await offset(api, url, stranger)).status_code == 404
        drop = await api.delete(url.removeprefix("/storage/v1"), headers=VERSION, token=stranger)
        assert drop.status_code == 404
    assert (await send(api, url, 0, TEN[:5], token=ann)).status_code == 204
    api.rows("DROP POLICY own_folder ON storage.objects")
    assert (await send(api, url, 5, TEN[5:], token=ann)).status_code == 403
    assert api.rows("SELECT 1 FROM storage.objects") == []
    assert (await offset(api, url, ann)).status_code == 404
    assert api.blobs() == [] or {path.suffix for path in api.blobs()} == {".lock"}


async def test_a_signed_upload_url_is_enough(api: Api) -> None:
    await api.bucket()
    token = (await api.post("/object/upload/sign/b/a.txt")).json()["token"]
    signature = {"x-signature": token}
    call = f"{UPLOADS}/sign"
    begun = await begin(api, call=call, token=None, headers=signature)
    assert begun.status_code == 201
    url = begun.headers["location"]
    assert url.startswith(f"{api.url}/storage/v1/upload/resumable/sign/")
    assert (await offset(api, url, None, x_signature=token)).headers["upload-offset"] == "0"
    assert (await send(api, url, 0, TEN, token=None)).status_code == 400
    other = (await api.post("/object/upload/sign/b/other.txt")).json()["token"]
    assert (await send(api, url, 0, TEN, token=None, x_signature=other)).status_code == 404
    assert (await send(api, url, 0, TEN, token=None, x_signature=token)).status_code == 204
    assert (await api.get("/object/b/a.txt")).content == TEN
    for headers in ({}, signature, {"x-signature": "x"}, {"x-signature": SERVICE}):
        rejected = await begin(api, "else", call=call, token=None, headers=headers)
        assert rejected.status_code == 400


async def test_a_user_has_so_many_unfinished_ones(serve: ServeStorage) -> None:
    api = await serve(max_unfinished_uploads_per_user=1)
    await api.bucket()
    assert (await begin(api, "a")).status_code == 201
    rejected = await begin(api, "b")
    assert (rejected.status_code, rejected.headers["retry-after"]) == (429, "1")
    assert "complete or terminate" in rejected.text


async def test_an_upload_expires_as_the_setting_says(serve: ServeStorage) -> None:
    api = await serve(tus_url_expiry_ms=1)
    await api.bucket()
    url = (await begin(api, "a")).headers["location"]
    await asyncio.sleep(0.01)
    assert (await offset(api, url)).status_code == 404


async def test_a_complete_one_says_so_and_is_kept(api: Api) -> None:
    await api.bucket()
    url = (await begin(api, metadata="{")).headers["location"]
    for start, complete in ((0, None), (5, "1")):
        sent = await send(api, url, start, TEN[start : start + 5])
        assert (sent.status_code, sent.headers.get("tus-complete")) == (204, complete)
    dropped = await api.delete(path_of(url), headers=VERSION)
    expected = (400, "Cannot terminate an already completed upload")
    assert (dropped.status_code, dropped.text) == expected
    assert (await api.get("/object/info/b/a.txt")).json()["metadata"] == {}


NO_LENGTH = "Upload-Length or Upload-Defer-Length header required\n"
NO_FILE = "The file for this url was not found\n"


async def test_what_does_not_fit_is_rejected(api: Api) -> None:
    await api.bucket("small", file_size_limit=9, allowed_mime_types=["text/plain"])
    await api.bucket()
    for response, status, text in [
        (await begin(api, bucket="nope"), 404, "Bucket not found"),
        (await begin(api, "ä"), 400, "Invalid key: ä"),
        (
            await begin(api, bucket="small", contentType="text/plain"),
            413,
            "Maximum size exceeded\n",
        ),
        (await begin(api, size=10**18), 413, "Maximum size exceeded\n"),
        (await begin(api, bucket="small", size=1), 415, "mime type application/octet-stream"),
        (await begin(api, "a" * 1025), 400, "Invalid key: a"),
        (await begin(api, bucket="ä"), 400, "Bucket name invalid"),
        (
            await api.post(UPLOADS, headers={**VERSION, "upload-length": "1"}),
            400,
            "Metadata header is required",
        ),
        (await api.post(UPLOADS, headers=VERSION), 400, NO_LENGTH),
        (await begin(api, headers={"upload-defer-length": "1"}), 400, NO_LENGTH),
        (await api.post(UPLOADS), 412, "Tus-Resumable Required\n"),
        (await begin(api, headers={"tus-resumable": "2"}), 400, "Invalid tus-resumable\n"),
        (await begin(api, headers={"upload-metadata": "a !"}), 400, "Invalid upload-metadata\n"),
        (await begin(api, headers={"upload-length": "-1"}), 400, "Invalid upload-length\n"),
        (await offset(api, f"{UPLOADS}/..%2Fx"), 404, ""),
        (await offset(api, f"{UPLOADS}/{'0' * 32}"), 404, ""),
        (await send(api, f"{UPLOADS}/{'0' * 32}", 0, b"x"), 404, NO_FILE),
    ]:
        known = text.endswith("\n")
        assert response.status_code == status
        assert (response.text if known else response.text[: len(text)]) == text
    for rejected, message in (
        (await begin(api, token=None), "Invalid Compact JWS"),
        (await begin(api, token="x"), "Invalid Compact JWS"),
    ):
        assert rejection(rejected) == (400, "403", "Unauthorized", message)
    url = (await begin(api)).headers["location"]
    assert (await send(api, url, 1, b"x")).status_code == 409
    assert (await send(api, url, 0, TEN * 2)).status_code == 413
    for headers, status, text in (
        (VERSION, 403, "Upload-Offset header required\n"),
        ({**VERSION, "upload-offset": "0"}, 403, "Content-Type header required\n"),
        ({**PART, "content-type": "a/b"}, 400, "Invalid content-type\n"),
        ({**PART, "upload-offset": "x"}, 400, "Invalid upload-offset\n"),
        ({**PART, "upload-offset": "0", "upload-length": "9"}, 400, NO_LENGTH),
    ):
        rejected = await api.call("PATCH", path_of(url), content=b"a", headers=headers)
        assert (rejected.status_code, rejected.text) == (status, text)
    assert (await api.delete(path_of(url), headers=VERSION)).status_code == 204
    assert (await offset(api, url)).status_code == 404
    assert api.rows("SELECT 1 FROM storage.objects") == []


@pytest.fixture(scope="module")
def tus_js_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script and its client, installed by npm."""
    return installed(tmp_path_factory.mktemp("tus"))


async def test_tus_js_client_resumes_what_was_cut_twice(
    serve: ServeStorage, tus_js_client: Path, tmp_path: Path
) -> None:
    api = await serve()
    await api.bucket("mine")
    api.rows(OWN_FOLDER)
    content = os.urandom(20 * 1024 * 1024)
    (tmp_path / "big.bin").write_bytes(content)
    proxy = CuttingProxy(api.url, [3_000_000, 4_000_000])
    about = json.dumps(
        {"bucketName": "mine", "objectName": f"{ANN}/big.bin", "contentType": "application/x-big"}
    )
    try:
        await asyncio.to_thread(
            upload,
            tus_js_client,
            f"{proxy.url}/storage/v1/upload/resumable",
            api.token(ANN),
            str(tmp_path / "big.bin"),
            about,
            "6",
        )
    finally:
        proxy.close()
    assert proxy.cut == 2
    read = await api.get(f"/object/mine/{ANN}/big.bin", token=api.token(ANN))
    assert read.content == content
    assert read.headers["content-type"] == "application/x-big"


async def test_a_response_says_what_upstreams_does(api: Api) -> None:
    await api.bucket()
    text = "text/plain;charset=UTF-8"
    begun = await begin(api)
    assert begun.headers["content-type"] == text
    assert "upload-expires" in begun.headers
    assert "upload-offset" not in begun.headers  # since no bytes came with it
    url = begun.headers["location"]
    shown = await offset(api, url)
    assert (shown.headers["content-type"], shown.headers["cache-control"]) == (text, "no-store")
    assert "upload-expires" not in shown.headers
    stored = shown.headers["upload-metadata"]
    assert stored.endswith("cacheControl " + base64.b64encode(b"no-cache").decode())
    last = await send(api, url, 0, TEN)
    assert (last.headers["upload-offset"], last.headers["tus-complete"]) == ("10", "1")
    assert "upload-expires" not in last.headers
    again = await send(api, url, 10, b"")
    assert (again.status_code, again.text) == (409, "The resource already exists")
    assert again.headers["content-type"] == text


@pytest.mark.parametrize(("id", "status"), [("nope", 400), ("YS9iL2M", 400), ("dC9iL2Evdg", 404)])
async def test_what_is_no_id_is_no_missing_upload(api: Api, id: str, status: int) -> None:
    for method in ("PATCH", "DELETE"):
        headers = {**PART, "upload-offset": "0"}
        response = await api.call(method, f"/upload/resumable/{id}", headers=headers, content=b"x")
        assert response.status_code == status
        assert response.text == (
            "Invalid upload id" if status == 400 else "The file for this url was not found\n"
        )


async def test_options_say_what_pages_may_send(api: Api) -> None:
    for path in (UPLOADS, f"{UPLOADS}/sign", f"{UPLOADS}/an-upload"):
        headers = (await api.call("OPTIONS", path, token=None)).headers
        assert headers["access-control-allow-methods"] == "POST, HEAD, PATCH, OPTIONS, DELETE"
        assert "X-Upsert" in headers["access-control-allow-headers"].split(", ")
        assert headers["access-control-max-age"] == "86400"


async def test_an_upload_of_parts_at_a_time_is_rejected_by_name(api: Api) -> None:
    await api.bucket()
    response = await begin(api, headers={"upload-concat": "partial"})
    assert response.status_code == 501
    assert response.text.startswith("Concatenation extension is not (yet) supported.")
    response = await begin(api, headers={"upload-concat": "whole"})
    assert (response.status_code, response.text) == (400, "Invalid upload-concat\n")
