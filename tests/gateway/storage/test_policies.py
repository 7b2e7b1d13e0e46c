"""Policies of the database decide who sees and changes which files."""

import base64
import time
from typing import Any

import httpx
import jwt
import pytest
from tests.gateway.storage.api import (
    ANN,
    ANON,
    BOB,
    OWN_FOLDER,
    SECRET,
    TEN,
    Api,
    files_in,
    hidden,
    no_bucket,
    no_object,
    rejection,
)

FILE = f"{ANN}/a.txt"


@pytest.fixture
async def mine(api: Api) -> Api:
    """A bucket with a folder for each user, and Ann's file in hers."""
    await api.bucket("mine")
    await api.bucket("other")
    api.rows(OWN_FOLDER)
    await api.uploaded(f"mine/{FILE}", token=api.token(ANN))
    return api


async def everything(api: Api, token: str | None) -> dict[str, httpx.Response]:
    """The responses to all that a client may try with Ann's file."""
    path = f"mine/{FILE}"
    elsewhere = {"bucketId": "mine", "sourceKey": FILE, "destinationKey": f"{BOB}/b.txt"}
    again = {"content-type": "text/plain", "x-upsert": "true"}
    return {
        "read": await api.get(f"/object/{path}", token=token),
        "read authenticated": await api.get(f"/object/authenticated/{path}", token=token),
        "read public": await api.get(f"/object/public/{path}", token=token),
        "head": await api.head(f"/object/{path}", token=token),
        "info": await api.get(f"/object/info/{path}", token=token),
        "list": await api.post("/object/list/mine", {"prefix": str(ANN)}, token=token),
        "page": await api.post("/object/list-v2/mine", {"prefix": ""}, token=token),
        "sign": await api.post(f"/object/sign/{path}", {"expiresIn": 60}, token=token),
        "sign many": await api.post(
            "/object/sign/mine", {"expiresIn": 60, "paths": [FILE]}, token=token
        ),
        "sign upload": await api.post(
            f"/object/upload/sign/{path}", headers={"x-upsert": "true"}, token=token
        ),
        "replace": await api.post(f"/object/{path}", content=b"x", headers=again, token=token),
        "update": await api.put(f"/object/{path}", content=b"x", token=token),
        "add": await api.upload(f"mine/{ANN}/new", token=token),
        "copy": await api.post("/object/copy", elsewhere, token=token),
        "move": await api.post("/object/move", elsewhere, token=token),
        "delete many": await api.delete("/object/mine", {"prefixes": [FILE]}, token=token),
        "delete": await api.delete(f"/object/{path}", token=token),
    }


def shows(response: httpx.Response) -> bool:
    """Whether the answer tells of Ann's file or its bytes."""
    return TEN in response.content or b"a.txt" in response.content.replace(FILE.encode(), b"")


@pytest.mark.parametrize("who", ["bob", "anon", "nobody"])
async def test_what_is_anothers_is_not_there(mine: Api, who: str) -> None:
    token = {"bob": mine.token(BOB), "anon": ANON, "nobody": None}[who]
    before = mine.rows("SELECT * FROM storage.objects")
    responses = await everything(mine, token)
    for name, response in responses.items():
        assert not shows(response), name
        if name in ("list", "page", "sign many", "delete many") and token is not None:
            assert response.status_code == 200
            continue
        assert response.status_code == 400, name
    if token is not None:
        assert responses["list"].json() == responses["delete many"].json() == []
        assert responses["page"].json()["objects"] == []
        assert responses["sign many"].json()[0]["signedURL"] is None
        assert rejection(responses["read"]) == rejection(responses["info"]) == no_object()
        assert rejection(responses["move"]) == no_object()
        # As on Supabase: it tells that there is something, though not what.
        denied = (400, "403", "Unauthorized", "Access denied")
        assert rejection(responses["delete"]) == denied
        for name in ("replace", "update", "add", "sign upload"):
            assert rejection(responses[name]) == hidden()
    assert mine.rows("SELECT * FROM storage.objects") == before
    assert len(mine.blobs()) == 1


async def test_without_the_policy_everything_is_anothers(mine: Api) -> None:
    """The control: it is the policy that lets Ann in, and no code of ours."""
    mine.rows("DROP POLICY own_folder ON storage.objects")
    for name, response in (await everything(mine, mine.token(ANN))).items():
        assert not shows(response), name
    assert len(mine.blobs()) == 1


async def test_with_a_policy_for_all_nothing_is_anothers(mine: Api) -> None:
    """The other control: it is the policy that keeps Bob out."""
    mine.rows("CREATE POLICY open ON storage.objects USING (true)")
    responses = await everything(mine, mine.token(BOB))
    rejected = [name for name, response in responses.items() if response.status_code != 200]
    # The move goes where the copy has gone, and the last finds nothing left.
    assert rejected == ["read public", "move", "delete"]


async def test_what_is_ones_own_can_be_seen_and_changed(mine: Api) -> None:
    ann = mine.token(ANN)
    elsewhere = {"bucketId": "mine", "sourceKey": FILE, "destinationKey": f"{ANN}/b.txt"}
    assert (await mine.get(f"/object/mine/{FILE}", token=ann)).content == TEN
    assert await mine.names("mine", str(ANN), token=ann) == ["a.txt"]
    assert (await mine.upload(f"mine/{FILE}", b"x", token=ann, x_upsert="true")).status_code == 200
    assert (await mine.post("/object/copy", elsewhere, token=ann)).status_code == 200
    elsewhere["destinationKey"] = f"{BOB}/b.txt"
    assert rejection(await mine.post("/object/move", elsewhere, token=ann)) == hidden()
    assert rejection(await mine.post("/object/copy", elsewhere, token=ann)) == hidden()
    elsewhere |= {"destinationKey": FILE, "destinationBucket": "other"}
    assert rejection(await mine.post("/object/move", elsewhere, token=ann)) == hidden()
    assert (await mine.delete(f"/object/mine/{FILE}", token=ann)).status_code == 200
    owners = mine.rows("SELECT name, owner::text, owner_id FROM storage.objects")
    assert owners == [(f"{ANN}/b.txt", str(ANN), str(ANN))]
    assert len(mine.blobs()) == 1


async def test_whose_a_file_is_its_row_says(api: Api) -> None:
    await api.bucket()
    api.rows("CREATE POLICY p ON storage.objects USING (owner_id = auth.jwt() ->> 'sub')")
    ann, bob, other = api.token(ANN), api.token(BOB), api.token(ANN, sub="user_2x")
    await api.uploaded("b/anns", token=ann)
    await api.uploaded("b/others", token=other)
    assert await api.names(token=ann) == ["anns"]
    assert await api.names(token=other) == ["others"]
    assert await api.names(token=bob) == []
    assert api.rows("SELECT owner, owner_id FROM storage.objects WHERE name = 'others'") == [
        (None, "user_2x")
    ]


async def test_who_may_write_need_not_be_let_read(api: Api) -> None:
    await api.bucket()
    api.rows("CREATE POLICY p ON storage.objects FOR INSERT TO anon WITH CHECK (bucket_id = 'b')")
    await api.uploaded("b/letter", token=ANON)
    assert rejection(await api.get("/object/b/letter", token=ANON)) == no_object()
    assert rejection(await api.upload("b/letter", token=ANON))[2] == "Duplicate"
    assert rejection(await api.upload("b/letter", token=ANON, x_upsert="true")) == hidden()
    assert (await api.get("/object/b/letter")).content == TEN


async def test_a_policy_may_ask_what_is_done_and_what_is_declared(api: Api) -> None:
    await api.bucket()
    api.rows("""
        CREATE POLICY listing ON storage.objects FOR SELECT TO authenticated
        USING (storage.operation() = 'storage.object.list');
        CREATE POLICY small ON storage.objects FOR INSERT TO authenticated
        WITH CHECK ((metadata ->> 'contentLength')::int < 10 AND auth.jwt() ->> 'tier' = 'gold');
    """)
    gold, plain = api.token(ANN, tier="gold"), api.token(ANN)
    assert rejection(await api.upload("b/a", b"123", token=plain)) == hidden()
    assert rejection(await api.upload("b/a", token=gold)) == hidden()
    await api.uploaded("b/a", content=b"123", token=gold)
    assert await api.names(token=plain) == ["a"]
    assert rejection(await api.get("/object/b/a", token=plain)) == no_object()
    assert len(api.blobs()) == 1


async def test_a_policy_may_ask_for_the_request(api: Api) -> None:
    await api.bucket()
    api.rows("""
        CREATE POLICY p ON storage.objects FOR INSERT TO anon WITH CHECK (
            current_setting('request.headers')::json ->> 'x-team' = 'red'
            AND current_setting('request.method') = 'POST'
            AND current_setting('request.path') = '/object/b/' || name
        )
    """)
    assert rejection(await api.upload("b/a", token=ANON)) == hidden()
    assert rejection(await api.upload("b/a", token=ANON, x_team="blue")) == hidden()
    assert (await api.upload("b/a b", token=ANON, x_team="red")).status_code == 200


async def test_a_transaction_leaves_no_role_behind(api: Api) -> None:
    await api.bucket()
    for _ in range(3):
        assert rejection(await api.upload("b/a", token=ANON)) == hidden()
        assert (await api.post("/bucket", {"name": "c"}, token=ANON)).status_code == 400
        await api.uploaded("b/a")
        assert (await api.delete("/object/b/a")).status_code == 200


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"role": "postgres"}, 'role "postgres" does not exist'),
        ({"role": "supabase_admin"}, 'role "supabase_admin" does not exist'),
        ({"role": "nobody"}, 'role "nobody" does not exist'),
        ({"role": "x'; RESET ROLE; --"}, 'role "x\'; RESET ROLE; --" does not exist'),
        ({"role": ["service_role"]}, "Invalid JWT"),
        ({"sub": 7}, "Invalid JWT"),
        ({"name": "\0"}, "Invalid JWT"),
        ({"role": "\ud800"}, "Invalid JWT"),
    ],
)
async def test_a_token_gets_no_role_that_the_data_api_would_not_give(
    mine: Api, claims: dict[str, Any], message: str
) -> None:
    response = await mine.post("/object/list/mine", {"prefix": ""}, token=mine.token(**claims))
    assert rejection(response) == (400, "403", "Unauthorized", message)


async def test_a_claim_may_be_a_number_of_any_size(mine: Api) -> None:
    assert await mine.names("mine", "nowhere", token=mine.token(number=10**40)) == []


async def test_a_token_without_a_role_is_anonymous(mine: Api) -> None:
    token = jwt.encode({"sub": str(ANN), "exp": int(time.time()) + 60}, SECRET, "HS256")
    assert await mine.names("mine", str(ANN), token=token) == []


async def test_a_token_that_does_not_hold_is_rejected(mine: Api) -> None:
    now = int(time.time())
    for token, message in [
        (mine.token(exp=now - 60), '"exp" claim timestamp check failed'),
        (mine.token(nbf=now + 60), '"nbf" claim timestamp check failed'),
        (jwt.encode({"role": "service_role"}, "x" * 32, "HS256"), "signature verification failed"),
        ("nonsense", "Invalid Compact JWS"),
    ]:
        for response in (
            await mine.get("/bucket", token=token),
            await mine.upload("mine/x", token=token),
            await mine.get(f"/object/authenticated/mine/{FILE}", token=token),
        ):
            assert rejection(response) == (400, "403", "Unauthorized", message)
        # Here it is as good as none, as upstream.
        assert rejection(await mine.get(f"/object/mine/{FILE}", token=token)) == no_bucket()
    response = await mine.get("/bucket", token=None)
    message = "headers must have required property 'authorization'"
    assert rejection(response) == (400, "400", "Error", message)


KINDS = ("raw", "form", "tus")
OBJECT_POLICIES = {
    "(metadata ->> 'size')::int < 5": (400, 400, 403),
    "(metadata ->> 'contentLength')::int < 5": (200, 400, 201),
    "metadata ->> 'mimetype' = 'text/plain'": (200, 200, 201),
    "user_metadata ->> 'k' = 'v'": (200, 200, 201),
    "storage.allow_only_operation('object.upload')": (200, 200, 403),
    "storage.allow_any_operation(array['storage.object.upload', 'storage.tus.upload.create'])": (
        200,
        200,
        201,
    ),
    "storage.allow_any_operation(array['', null])": (400, 400, 403),
}


@pytest.mark.parametrize(("check", "statuses"), OBJECT_POLICIES.items())
async def test_a_policy_for_insert_sees_what_is_declared_before_the_bytes(
    api: Api, check: str, statuses: tuple[int, ...]
) -> None:
    await api.bucket()
    api.rows(f"CREATE POLICY p ON storage.objects FOR INSERT TO authenticated WITH CHECK ({check})")
    token, metadata = api.token(ANN), '{"k": "v"}'
    encoded = base64.b64encode(metadata.encode()).decode()
    responses = {
        "raw": await api.upload("b/raw", b"123", token=token, x_metadata=encoded),
        "form": await api.post(
            "/object/b/form",
            token=token,
            data={"metadata": metadata},
            files={"": ("a.txt", b"123", "text/plain")},
        ),
        "tus": await api.post(
            "/upload/resumable",
            content=b"123",
            token=token,
            headers={
                "tus-resumable": "1.0.0",
                "upload-length": "3",
                "content-type": "application/offset+octet-stream",
                "upload-metadata": ",".join(
                    f"{name} {base64.b64encode(value.encode()).decode()}"
                    for name, value in {
                        "bucketName": "b",
                        "objectName": "tus",
                        "contentType": "text/plain",
                        "metadata": metadata,
                    }.items()
                ),
            },
        ),
    }
    assert tuple(responses[kind].status_code for kind in KINDS) == statuses
    stored = [kind for kind in KINDS if responses[kind].is_success]
    assert await api.names() == sorted(stored)
    assert len(files_in(api.folder / "objects")) == len(stored)


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/object/b/a", "storage.object.get_authenticated"),
        ("HEAD", "/object/b/a", "object.head_authenticated_info"),
        ("HEAD", "/object/authenticated/b/a", "object.head_authenticated_info"),
        ("GET", "/object/info/b/a", "object.get_authenticated_info"),
        ("GET", "/object/info/authenticated/b/a", "object.get_authenticated_info"),
    ],
)
async def test_a_policy_sees_how_an_object_is_read(
    api: Api, method: str, path: str, operation: str
) -> None:
    await api.bucket()
    await api.uploaded("b/a")
    check = f"storage.operation() = '{operation}'"
    api.rows(f"CREATE POLICY p ON storage.objects FOR SELECT TO authenticated USING ({check})")
    assert (await api.call(method, path, token=api.token(ANN))).status_code == 200


async def test_an_object_that_comes_after_the_check_is_replaced_only_by_who_may(api: Api) -> None:
    await api.bucket()
    api.rows("""
        CREATE POLICY one ON storage.objects FOR INSERT TO authenticated WITH CHECK (true);
        CREATE POLICY two ON storage.objects FOR SELECT TO authenticated USING (true);
        CREATE POLICY three ON storage.objects FOR UPDATE TO authenticated
        USING (owner_id = auth.jwt() ->> 'sub');
    """)

    async def content() -> Any:
        yield b"ann"
        await api.uploaded("b/a", content=b"bob", token=api.token(BOB))

    headers = {"x-upsert": "true", "content-type": "text/plain"}
    rejected = await api.post(
        "/object/b/a", content=content(), token=api.token(ANN), headers=headers
    )
    assert rejection(rejected) == hidden()
    assert (await api.get("/object/b/a")).content == b"bob"
    assert len(api.blobs()) == 1
