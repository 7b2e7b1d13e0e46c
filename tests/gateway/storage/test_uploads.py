"""Uploads in one request, and what is kept of them."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.gateway.storage.api import SERVICE, TEN, Api, rejection, slowly, taken
from tests.gateway.storage.conftest import ServeStorage

from amphibase.blobs.disk import DiskBlobs

DIGEST = hashlib.md5(TEN).hexdigest()


def form(content: bytes = TEN, kind: str = "text/plain", field: str = "", **fields: str) -> bytes:
    """A form as browsers send it: supabase-js gives the file's field no name."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="blob"\r\n'
    file = head.encode() + f"Content-Type: {kind}\r\n\r\n".encode() + content
    return b"".join([*parts, file, b"\r\n--edge--\r\n"])


FORM = {"content-type": "multipart/form-data; boundary=edge"}


async def test_a_body_is_kept_with_what_its_headers_say(api: Api) -> None:
    await api.bucket()
    metadata = base64.b64encode(json.dumps({"by": "Ann"}).encode()).decode()
    response = await api.upload(
        "b/x/a.txt",
        cache_control="max-age=60",
        x_metadata=metadata,
        kind="text/plain;charset=utf-8",
    )
    assert response.status_code == 200
    assert response.json()["Key"] == "b/x/a.txt"
    info = (await api.get("/object/info/b/x/a.txt")).json()
    assert info["id"] == response.json()["Id"]
    assert {name: info[name] for name in ("name", "bucket_id", "size", "metadata")} == {
        "name": "x/a.txt",
        "bucket_id": "b",
        "size": 10,
        "metadata": {"by": "Ann"},
    }
    assert info["content_type"] == "text/plain;charset=utf-8"
    assert info["cache_control"] == "max-age=60"
    assert info["etag"] == f'"{DIGEST}"'


@pytest.mark.parametrize("field", ["", "file"])
async def test_a_form_is_kept_with_what_its_fields_say(api: Api, field: str) -> None:
    await api.bucket()
    body = form(field=field, cacheControl="60", metadata='{"by": "Ann"}', other="nothing")
    response = await api.post("/object/b/a.txt", content=body, headers=FORM)
    assert response.status_code == 200, response.text
    info = (await api.get("/object/info/b/a.txt")).json()
    assert (info["size"], info["cache_control"]) == (10, "max-age=60")
    assert (info["content_type"], info["metadata"]) == ("text/plain", {"by": "Ann"})
    assert (await api.get("/object/b/a.txt")).content == TEN


async def test_crawlers_are_told_what_the_sender_of_a_file_says(api: Api) -> None:
    await api.bucket(public=True)
    await api.uploaded("b/none")
    rules = "googlebot: noindex, unavailable_after: 25 Jun 2030 15:00:00 PST, max-snippet: -1"
    await api.uploaded("b/rules", x_robots_tag=rules)
    headers = {**FORM, "x-robots-tag": "all"}
    await api.post("/object/b/form", content=form(), headers=headers)
    for name, expected in (("none", "none"), ("rules", rules), ("form", "all")):
        response = await api.get(f"/object/public/b/{name}", token=None)
        assert response.headers["x-robots-tag"] == expected


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("perhaps", 'Invalid X-Robots-Tag rule: "perhaps"'),
        ("all,,none", "X-Robots-Tag header contains empty rule"),
        ("bot:", 'X-Robots-Tag user agent "bot" has no rules specified'),
        ("bot: perhaps", 'Invalid X-Robots-Tag rule: "perhaps"'),
        ("max-snippet:", 'X-Robots-Tag rule "max-snippet" requires a value'),
        ("max-snippet: x", '"max-snippet" value must be an integer >= -1, got: "x"'),
        ("max-image-preview: x", "one of: none, standard, large"),
        ("unavailable_after: never", "must be a valid date"),
    ],
)
async def test_what_no_crawler_understands_is_rejected(api: Api, header: str, fault: str) -> None:
    await api.bucket()
    status, real, word, message = rejection(await api.upload(x_robots_tag=header))
    assert (status, real, word) == (400, "400", "invalid_x_robots_tag")
    assert message.startswith("Invalid X-Robots-Tag header: ")
    assert fault in message


async def test_nothing_said_is_a_stream_of_bytes_that_nobody_caches(api: Api) -> None:
    await api.bucket()
    response = await api.post("/object/b/a", content=slowly([b"01234", b"56789"]))
    assert response.status_code == 200
    info = (await api.get("/object/info/b/a")).json()
    assert info["content_type"] == "application/octet-stream"
    assert (info["cache_control"], info["metadata"]) == ("no-cache", {})


async def test_a_file_may_be_empty(api: Api) -> None:
    await api.bucket()
    await api.uploaded("b/none", content=b"")
    response = await api.get("/object/b/none")
    assert (response.status_code, response.content) == (200, b"")


async def test_a_file_is_replaced_only_on_demand(api: Api) -> None:
    await api.bucket()
    first = (await api.upload()).json()["Id"]
    assert rejection(await api.upload(content=b"new")) == taken()
    assert rejection(await api.upload(content=b"new", x_upsert="false")) == taken()
    assert (await api.get("/object/b/a.txt")).content == TEN
    assert (await api.upload(content=b"new", x_upsert="true")).json()["Id"] == first
    assert (await api.get("/object/b/a.txt")).content == b"new"
    again = await api.put("/object/b/a.txt", content=b"newer", headers={"content-type": "text/x"})
    assert again.json() == {"Id": first, "Key": "b/a.txt"}
    assert (await api.get("/object/b/a.txt")).content == b"newer"
    assert len(api.blobs()) == 1


async def test_of_many_who_send_the_same_new_file_one_wins(api: Api) -> None:
    await api.bucket()
    sent = await asyncio.gather(*(api.upload(content=b"%d" % each) for each in range(8)))
    won = [each for each, response in enumerate(sent) if response.status_code == 200]
    assert len(won) == 1
    assert all(rejection(response) == taken() for response in sent if response.status_code != 200)
    assert (await api.get("/object/b/a.txt")).content == b"%d" % won[0]
    assert len(api.blobs()) == 1


async def test_of_many_who_replace_a_file_the_last_stays_whole(api: Api) -> None:
    await api.bucket()
    contents = [bytes([each]) * 100_000 for each in range(6)]
    sent = await asyncio.gather(
        *(api.upload(content=content, x_upsert="true") for content in contents)
    )
    assert {response.status_code for response in sent} == {200}
    assert len({response.json()["Id"] for response in sent}) == 1
    assert (await api.get("/object/b/a.txt")).content in contents
    assert len(api.blobs()) == 1


TOO_LARGE = (400, "413", "Payload too large", "The object exceeded the maximum allowed size")


@pytest.mark.parametrize("known", [True, False])
async def test_a_bucket_limits_the_size_of_its_files(api: Api, known: bool) -> None:
    await api.bucket(file_size_limit=9)
    content = TEN if known else slowly([TEN])
    assert rejection(await api.post("/object/b/a", content=content)) == TOO_LARGE
    assert rejection(await api.post("/object/b/a", content=form(), headers=FORM)) == TOO_LARGE
    assert (await api.names(), api.blobs()) == ([], [])
    await api.uploaded("b/a", content=TEN[:9])


async def test_the_project_limits_the_size_of_all_files(serve: ServeStorage) -> None:
    api = await serve(file_size_limit=1_000_000)
    assert (await api.post("/bucket", {"name": "b", "file_size_limit": 10**7})).status_code == 400
    await api.bucket()
    for content in (b"x" * 1_000_001, b"x" * 5_000_000, slowly([b"x" * 65536] * 20)):
        response = await api.post("/object/b/a", content=content)
        assert rejection(response) == TOO_LARGE
        # Else the server would read what is left, to throw it away.
        assert response.headers["connection"] == "close"
    assert api.blobs() == []
    await api.uploaded("b/a", content=b"x" * 1_000_000)


@pytest.mark.parametrize(
    ("kind", "is_taken"),
    [
        ("image/png", True),
        ("image/PNG; charset=x", True),
        ("text/plain", True),
        ("text/plain;charset=UTF-8", True),
        ("text/html", False),
        ("imagex/png", False),
        ("TEXT/PLAIN", False),
        ("IMAGE/PNG", False),
    ],
)
async def test_a_bucket_limits_the_types_of_its_files(api: Api, kind: str, is_taken: bool) -> None:
    await api.bucket(allowed_mime_types=["image/*", "image/png", "text/plain"])
    message = f"mime type {kind} is not supported"
    sent = [
        await api.upload("b/1", kind=kind),
        await api.post("/object/b/2", content=form(kind=kind), headers=FORM),
    ]
    for response in sent:
        if is_taken:
            assert response.status_code == 200
        else:
            assert rejection(response) == (400, "415", "invalid_mime_type", message)
    assert len(await api.names()) == len(api.blobs()) == (2 if is_taken else 0)


@pytest.mark.parametrize(
    "key", ["ä.txt", "a%23b", "a%5Cb", "a%00b", "a%0Ab", "a/%2E%2E/b", "a~b", "%E4", "x" * 1025]
)
async def test_some_names_no_file_has(api: Api, key: str) -> None:
    await api.bucket()
    status, real, word, message = rejection(await api.upload(f"b/{key}"))
    assert (status, real, word) == (400, "400", "InvalidKey")
    assert message.startswith("Invalid key: ")
    assert api.rows("SELECT name FROM storage.objects") == []


async def test_what_is_safe_in_a_key_is_taken_as_it_is(api: Api) -> None:
    await api.bucket()
    name = "x/!-_.*'() &$@=;:+,?/a"
    quoted = "x/!-_.*'()%20&$@=;:+,%3F/a"
    await api.uploaded(f"b/{quoted}")
    assert api.rows("SELECT name FROM storage.objects") == [(name,)]
    assert (await api.get(f"/object/b/{quoted}")).content == TEN


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (form(metadata='{"a": "\\u0000"}'), FORM),
        (form(metadata='{"a":' * 900 + "1" + "}" * 900), FORM),
        (form(metadata="{}").replace(b"--edge--", b"--edge"), FORM),
        (b"--edge\r\nnonsense", FORM),
        (form()[:-30], FORM),
        (form(), {"content-type": "multipart/form-data"}),
        (form() + form(), FORM | {"content-type": "multipart/form-data; boundary=other"}),
    ],
)
async def test_what_cannot_be_read_is_rejected_and_leaves_nothing(
    api: Api, body: bytes, headers: dict[str, str]
) -> None:
    await api.bucket()
    response = await api.post("/object/b/a", content=body, headers=headers)
    assert (response.status_code, response.json()["statusCode"]) == (400, "400")
    assert (await api.names(), api.blobs()) == ([], [])


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (form(metadata="{"), FORM),
        (TEN, {"x-metadata": "not base64!"}),
        (TEN, {"x-metadata": base64.b64encode(b"{").decode()}),
        (TEN, {"x-metadata": base64.b64encode(b"[" * 100_000).decode()[:8000]}),
    ],
)
async def test_metadata_that_is_no_json_is_none(
    api: Api, body: bytes, headers: dict[str, str]
) -> None:
    await api.bucket()
    assert (await api.post("/object/b/a", content=body, headers=headers)).status_code == 200
    assert (await api.get("/object/info/b/a")).json()["metadata"] == {}


@pytest.mark.parametrize("kind", ["nonsense", "a/b/c", "a b/c", "/"])
async def test_a_type_is_written_as_one(api: Api, kind: str) -> None:
    await api.bucket()
    expected = (400, "415", "invalid_mime_type", "Invalid Content-Type header")
    assert rejection(await api.upload("b/1", kind=kind)) == expected
    response = await api.post("/object/b/2", content=form(kind=kind), headers=FORM)
    assert rejection(response) == expected


async def test_a_form_may_name_the_type_in_a_field(api: Api) -> None:
    await api.bucket()
    body = form(kind="image/png").replace(
        b"--edge",
        b'--edge\r\nContent-Disposition: form-data; name="contentType"\r\n\r\na/b\r\n--edge',
        1,
    )
    assert (await api.post("/object/b/a", content=body, headers=FORM)).status_code == 200
    assert (await api.get("/object/info/b/a")).json()["content_type"] == "a/b"


async def test_the_placeholder_of_a_folder_is_empty(api: Api) -> None:
    await api.bucket()
    assert rejection(await api.upload("b/f/.emptyFolderPlaceholder"))[:2] == (400, "413")
    await api.uploaded("b/f/.emptyFolderPlaceholder", content=b"")


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("fields", [1, 40_000])
async def test_a_form_has_an_end_beside_its_file(api: Api, place: str, fields: int) -> None:
    await api.bucket()
    part = b'--edge\r\nContent-Disposition: form-data; name="x"\r\n\r\n%s\r\n'
    much = part % (b"x" * (2_000_000 // fields))
    file = form().removesuffix(b"--edge--\r\n")
    parts = [file, *([much] * fields)] if place == "after" else [*([much] * fields), file]
    response = await api.post(
        "/object/b/a", content=b"".join([*parts, b"--edge--\r\n"]), headers=FORM
    )
    assert rejection(response)[3] == "The form has too much beside its file"
    assert (await api.names(), api.blobs()) == ([], [])


async def test_an_upload_that_is_cut_off_leaves_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.bucket()
    begun, ended = asyncio.Event(), asyncio.Event()
    write = DiskBlobs.write

    async def watched(self: DiskBlobs, version: UUID, content: AsyncIterable[bytes]) -> int:
        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in content:
                yield chunk
                begun.set()

        try:
            return await write(self, version, chunks())
        finally:
            ended.set()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        await asyncio.Event().wait()

    monkeypatch.setattr(DiskBlobs, "write", watched)
    async with httpx.AsyncClient(base_url=f"{api.url}/storage/v1") as client:
        headers = {"authorization": f"Bearer {SERVICE}"}
        sending = asyncio.create_task(
            client.post("/object/b/a", content=stalling(), headers=headers)
        )
        await begun.wait()
        sending.cancel()
        await asyncio.wait([sending])
    await ended.wait()
    assert (await api.names(), api.blobs()) == ([], [])


async def test_bytes_whose_row_is_rejected_are_deleted(api: Api) -> None:
    await api.bucket()
    api.rows("""
        CREATE OR REPLACE FUNCTION public.not_ten() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.metadata ->> 'eTag' IS NOT NULL THEN
                RAISE EXCEPTION 'not these bytes';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER not_ten BEFORE INSERT ON storage.objects
            FOR EACH ROW EXECUTE FUNCTION public.not_ten();
    """)
    try:
        response = await api.upload()
    finally:
        api.rows("DROP TRIGGER not_ten ON storage.objects")
    assert rejection(response) == (500, "500", "DatabaseError", "not these bytes")
    assert (await api.names(), api.blobs()) == ([], [])


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ('["a", {"b": 1}]', {"0": "a", "1": {"b": 1}}),
        ('"ab"', {"0": "a", "1": "b"}),
        ("5", {}),
        ("null", {}),
    ],
)
async def test_metadata_that_is_no_object_becomes_one(
    api: Api, sent: str, stored: dict[str, Any]
) -> None:
    await api.bucket()
    header = base64.b64encode(sent.encode()).decode()
    assert (await api.upload("b/raw", x_metadata=header)).status_code == 200
    sent_form = await api.post("/object/b/form", content=form(metadata=sent), headers=FORM)
    assert sent_form.status_code == 200
    for name in ("raw", "form"):
        assert (await api.get(f"/object/info/b/{name}")).json()["metadata"] == stored


@pytest.mark.parametrize("sent", ['"' + "a" * 10_001 + '"', "[" + "1," * 10_000 + "1]"])
async def test_metadata_of_too_many_names_are_rejected(api: Api, sent: str) -> None:
    await api.bucket()
    response = await api.post("/object/b/a", content=form(metadata=sent), headers=FORM)
    assert response.json()["message"] == "The metadata is too large"
    assert (await api.names(), api.blobs()) == ([], [])


async def test_ids_and_versions_are_random(api: Api) -> None:
    await api.bucket()
    id = (await api.upload()).json()["Id"]
    [(version,)] = api.rows("SELECT version FROM storage.objects")
    assert {UUID(id).version, UUID(version).version} == {4}
