"""URLs that open one file for their holder."""

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from tests.gateway.storage.api import ANN, ANON, SECRET, SERVICE, TEN, Api, rejection, taken
from tests.gateway.storage.test_tus import metadata

INVALID = (400, "400", "InvalidJWT", "signature verification failed")
ALGORITHM = '"alg" (Algorithm) Header Parameter value not allowed'
EXPIRED = (400, "400", "InvalidJWT", '"exp" claim timestamp check failed')


async def sign(api: Api, path: str = "b/a.txt", seconds: Any = 60) -> str:
    response = await api.post(f"/object/sign/{path}", {"expiresIn": seconds})
    assert response.status_code == 200, response.text
    url: str = response.json()["signedURL"]
    return url


def token_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["token"][0]


@pytest.fixture
async def stored(api: Api) -> Api:
    """A private bucket with a file."""
    await api.bucket()
    await api.uploaded("b/a.txt", "b/x y/b.txt")
    return api


async def test_a_signed_url_opens_its_file_without_a_token(stored: Api) -> None:
    url = await sign(stored, seconds="60")
    assert url.startswith("/object/sign/b/a.txt?token=")
    response = await stored.get(url, token=None)
    assert (response.status_code, response.content) == (200, TEN)
    assert "expires" in response.headers
    assert "cache-control" not in response.headers
    saved = await stored.get(f"{url}&download=b.txt", token=None)
    assert saved.headers["content-disposition"].startswith("attachment; filename=b.txt;")
    part = await stored.get(url, token=None, headers={"range": "bytes=0-1"})
    assert (part.status_code, part.content) == (206, b"01")


async def test_the_name_in_a_url_does_not_begin_its_query(api: Api) -> None:
    await api.bucket()
    await api.uploaded("b/why%3F.txt")
    url = await sign(api, "b/why%3F.txt")
    assert (await api.get(url, token=None)).content == TEN
    signed = (await api.post("/object/upload/sign/b/how%3F.txt")).json()
    assert (await api.put(signed["url"], content=TEN, token=None)).json()["Key"] == "b/how?.txt"


async def test_what_a_url_says_is_what_the_clients_know(stored: Api) -> None:
    claims = jwt.decode(token_of(await sign(stored)), options={"verify_signature": False})
    assert claims["url"] == "b/a.txt"
    assert claims["exp"] - claims["iat"] == 60


async def test_many_are_signed_at_once_and_each_is_reported_alone(stored: Api) -> None:
    paths = ["a.txt", "nope", "x y/b.txt"]
    response = await stored.post("/object/sign/b", {"expiresIn": 60, "paths": paths})
    one, none, other = response.json()
    assert none == {
        "error": "Either the object does not exist or you do not have access to it",
        "path": "nope",
        "signedURL": None,
    }
    for each, path in ((one, "a.txt"), (other, "x y/b.txt")):
        assert (each["error"], each["path"]) == (None, path)
        assert (await stored.get(each["signedURL"], token=None)).content == TEN


async def test_a_url_ends_with_its_time(stored: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = time.time() - 61
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: earlier)
        url = await sign(stored)
    assert rejection(await stored.get(url, token=None)) == EXPIRED


async def test_a_token_opens_its_own_path_alone_and_nothing_but_a_file(stored: Api) -> None:
    token = token_of(await sign(stored))
    mismatch = (400, "400", "InvalidSignature", "Invalid signature")
    for path in ("/object/sign/b/x%20y/b.txt", "/object/sign/c/a.txt", "/object/sign/b/a.txt/"):
        assert rejection(await stored.get(f"{path}?token={token}", token=None)) == mismatch
    upload = await stored.put(f"/object/upload/sign/b/a.txt?token={token}", token=None)
    assert rejection(upload) == (*mismatch[:3], "Token is not scoped for upload")
    assert rejection(await stored.get("/bucket", token=token))[1:3] == ("403", "Unauthorized")


async def test_no_other_token_opens_a_file(stored: Api) -> None:
    payload = {"url": "b/a.txt", "scope": "download", "exp": int(time.time()) + 60}
    good = token_of(await sign(stored))
    for token, expected in [
        (SERVICE, INVALID),
        (stored.token(ANN, **payload), (400, "400", "InvalidJWT", ALGORITHM)),
        (jwt.encode(payload, SECRET, "HS256"), INVALID),
        (jwt.encode(payload, "", "none"), (400, "400", "InvalidJWT", ALGORITHM)),
        (good[:-2] + ("AA" if good[-2:] != "AA" else "BB"), INVALID),
        ("x", (400, "400", "InvalidJWT", "Invalid Compact JWS")),
        ("x" * 10_000, (400, "400", "InvalidJWT", "Invalid Compact JWS")),
    ]:
        response = await stored.get(f"/object/sign/b/a.txt?token={token}", token=None)
        assert rejection(response) == expected
    response = await stored.get("/object/sign/b/a.txt", token=None)
    message = "querystring must have required property 'token'"
    assert rejection(response) == (400, "400", "Error", message)


async def test_no_url_lasts_for_ever(stored: Api) -> None:
    for call in ("/object/sign/b/a.txt", "/object/sign/b"):
        response = await stored.post(call, {"expiresIn": 10**15, "paths": ["a.txt"]})
        expected = (400, "400", "InvalidParameter", "Invalid Parameter expiresIn")
        assert rejection(response) == expected


async def test_a_signed_upload_url_takes_one_file(api: Api) -> None:
    await api.bucket()
    api.rows("CREATE POLICY p ON storage.objects FOR INSERT TO authenticated WITH CHECK (true)")
    signed = (await api.post("/object/upload/sign/b/a.txt", token=api.token())).json()
    assert signed["url"] == f"/object/upload/sign/b/a.txt?token={signed['token']}"
    sent = await api.put(signed["url"], content=TEN, token=None)
    assert (sent.status_code, sent.json()) == (200, {"Key": "b/a.txt"})
    assert api.rows("SELECT owner::text, owner_id FROM storage.objects") == [(str(ANN), str(ANN))]
    assert rejection(await api.put(signed["url"], content=b"new", token=None)) == taken()
    assert (await api.get("/object/b/a.txt")).content == TEN
    again = await api.post("/object/upload/sign/b/a.txt", headers={"x-upsert": "true"})
    assert (await api.put(again.json()["url"], content=b"new", token=None)).status_code == 200
    assert (await api.get("/object/b/a.txt")).content == b"new"


async def test_who_may_not_upload_cannot_sign_an_upload(stored: Api) -> None:
    for token in (ANON, stored.token()):
        response = await stored.post("/object/upload/sign/b/new", token=token)
        assert rejection(response)[1:3] == ("403", "Unauthorized")
    assert rejection(await stored.post("/object/upload/sign/b/a.txt")) == taken()
    read = token_of(await sign(stored))
    response = await stored.get(f"/object/upload/sign/b/a.txt?token={read}", token=None)
    assert response.status_code == 400


BANS = ("banned_until = now() + interval '1 hour'", "deleted_at = now()")


@pytest.mark.parametrize("ban", BANS)
async def test_a_signed_upload_ends_when_its_owner_is_banned_or_deleted(api: Api, ban: str) -> None:
    await api.bucket()
    api.rows("CREATE POLICY p ON storage.objects TO authenticated USING (true)")
    api.rows("INSERT INTO auth.users (id) VALUES (%s)", ANN)
    try:
        token = (await api.post("/object/upload/sign/b/a.txt", token=api.token(ANN))).json()[
            "token"
        ]
        tus = {"tus-resumable": "1.0.0", "x-signature": token, "upload-length": "10"}
        created = await api.post(
            "/upload/resumable/sign",
            headers={**tus, **metadata(bucketName="b", objectName="a.txt")},
            token=None,
        )
        assert created.status_code == 201
        api.rows(f"UPDATE auth.users SET {ban}")
        whole = await api.put(f"/object/upload/sign/b/a.txt?token={token}", content=TEN)
        part = await api.call(
            "PATCH",
            created.headers["location"].removeprefix("/storage/v1"),
            content=TEN,
            token=None,
            headers={
                **tus,
                "upload-offset": "0",
                "content-type": "application/offset+octet-stream",
            },
        )
    finally:
        api.rows("DELETE FROM auth.users")
    assert rejection(whole)[:3] == (400, "403", "Unauthorized")
    assert part.status_code == 403
    assert await api.names() == []


@pytest.mark.parametrize("ban", BANS)
async def test_a_signed_url_for_reading_is_valid_until_it_expires(api: Api, ban: str) -> None:
    await api.bucket()
    await api.uploaded()
    api.rows("CREATE POLICY p ON storage.objects TO authenticated USING (true)")
    api.rows("INSERT INTO auth.users (id) VALUES (%s)", ANN)
    try:
        signed = await api.post("/object/sign/b/a.txt", {"expiresIn": 60}, token=api.token(ANN))
        api.rows(f"UPDATE auth.users SET {ban}")
        assert (await api.get(signed.json()["signedURL"], token=None)).content == TEN
    finally:
        api.rows("DELETE FROM auth.users")
