"""Buckets, as their clients know them."""

from typing import Any

import pytest
from tests.gateway.storage.api import (
    ANN,
    ANON,
    BOB,
    SERVICE,
    Api,
    hidden,
    no_bucket,
    rejection,
    taken,
)

from amphibase.gateway.storage import object_rows
from amphibase.gateway.storage.routes import buckets

BUCKETS_OF_ANN = f"""
    CREATE POLICY anns ON storage.buckets FOR ALL TO authenticated
    USING (auth.uid() = '{ANN}')
"""


async def test_a_bucket_is_created_and_shown(api: Api) -> None:
    response = await api.post(
        "/bucket",
        {
            "name": "photos",
            "public": True,
            "file_size_limit": "1MB",
            "allowed_mime_types": ["image/png", "image/*"],
        },
    )
    assert (response.status_code, response.json()) == (200, {"name": "photos"})
    shown = (await api.get("/bucket/photos")).json()
    times = shown.pop("created_at"), shown.pop("updated_at")
    assert all(time.endswith("Z") for time in times)
    assert shown == {
        "id": "photos",
        "name": "photos",
        "owner": "",
        "public": True,
        "file_size_limit": 1_000_000,
        "allowed_mime_types": ["image/png", "image/*"],
    }
    assert [each["type"] for each in (await api.get("/bucket")).json()] == ["STANDARD"]


async def test_a_bucket_can_have_another_id_than_name(api: Api) -> None:
    created = await api.post("/bucket", {"name": "A name", "id": "id"})
    assert created.json() == {"name": "A name"}
    assert (await api.get("/bucket/id")).json()["name"] == "A name"


async def test_rules_that_are_not_given_stay_and_null_takes_them_away(api: Api) -> None:
    await api.bucket(file_size_limit=10, allowed_mime_types=["image/png"])
    response = await api.put("/bucket/b", {"public": True})
    assert response.json() == {"message": "Successfully updated"}
    shown = (await api.get("/bucket/b")).json()
    assert (shown["public"], shown["file_size_limit"]) == (True, 10)
    assert shown["allowed_mime_types"] == ["image/png"]
    await api.put("/bucket/b", {"file_size_limit": None, "allowed_mime_types": None})
    shown = (await api.get("/bucket/b")).json()
    assert (shown["public"], shown["file_size_limit"]) == (True, None)
    assert shown["allowed_mime_types"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a1", "a_2", "b"]),
        ("?limit=2", ["a1", "a_2"]),
        ("?limit=2&offset=2", ["b"]),
        ("?sortColumn=name&sortOrder=desc", ["b", "a_2", "a1"]),
        ("?search=A", ["a1", "a_2"]),
        ("?search=_", ["a_2"]),
        ("?search=%25", []),
    ],
)
async def test_buckets_are_listed_in_parts_and_searched(
    api: Api, query: str, expected: list[str]
) -> None:
    for name in ("b", "a1", "a_2"):
        await api.bucket(name)
    listed = (await api.get(f"/bucket{query}")).json()
    assert sorted(each["id"] for each in listed) == sorted(expected)
    if "search" not in query:
        assert [each["id"] for each in listed] == expected


async def test_only_an_empty_bucket_can_be_deleted(api: Api) -> None:
    await api.bucket()
    await api.uploaded("b/a.txt", "b/x/b.txt")
    rejected = rejection(await api.delete("/bucket/b", {}))
    message = "The bucket you tried to delete is not empty"
    assert rejected == (400, "409", "ResourceNotEmpty", message)
    response = await api.post("/bucket/b/empty", {})
    assert (response.status_code, list(response.json())) == (200, ["message"])
    assert (await api.names(), api.blobs()) == ([], [])
    assert (await api.delete("/bucket/b", {})).json() == {"message": "Successfully deleted"}
    assert rejection(await api.get("/bucket/b")) == no_bucket()


async def test_what_is_no_bucket_is_reported_alike(api: Api) -> None:
    for response in (
        await api.get("/bucket/nope"),
        await api.put("/bucket/nope", {"public": True}),
        await api.delete("/bucket/nope"),
        await api.post("/bucket/nope/empty"),
        await api.upload("nope/a.txt"),
        await api.get("/object/nope/a.txt"),
        await api.get("/object/public/nope/a.txt", token=None),
    ):
        assert rejection(response) == no_bucket()


async def test_a_name_is_taken_once(api: Api) -> None:
    await api.bucket()
    response = await api.post("/bucket", {"name": "b"})
    assert (rejection(response), response.json()["code"]) == (taken(), "BucketAlreadyExists")


FINITE = 'must pass "finite" keyword validation'
PATTERN = r'must match pattern "^[0-9]+(?:\.[0-9]+)?(?:[gG][bB]|[mM][bB]|[kK][bB]|[bB])$"'
NO_NAMES = ["", "a/b", "a\nb", "ä", "x" * 101, "a#b", "a%b", "a\\b", " a", "a ", "a--iceberg"]
NO_BUCKET_NAME = (400, "400", "Invalid Input", "Bucket name invalid")


@pytest.mark.parametrize("name", NO_NAMES)
async def test_some_names_no_bucket_has(api: Api, name: str) -> None:
    assert rejection(await api.post("/bucket", {"name": name})) == NO_BUCKET_NAME


async def test_no_call_takes_a_name_that_no_bucket_has(api: Api) -> None:
    body = {"bucketId": "ä", "sourceKey": "a", "destinationKey": "b"}
    for response in (
        await api.put("/bucket/ä", {"public": True}),
        await api.upload("ä/a"),
        await api.delete("/object/ä/a"),
        await api.delete("/object/ä", {"prefixes": ["a"]}),
        await api.post("/object/list/ä", {"prefix": ""}),
        await api.post("/object/list-v2/ä", {}),
        await api.post("/object/sign/ä/a", {"expiresIn": 60}),
        await api.post("/object/sign/ä", {"expiresIn": 60, "paths": ["a"]}),
        await api.post("/object/upload/sign/ä/a"),
        await api.post("/object/move", body),
        await api.post("/object/copy", body),
        await api.get("/object/sign/ä/a?token=x"),
    ):
        assert rejection(response) == NO_BUCKET_NAME, response.request.url


async def test_empty_types_of_a_bucket_are_left_out(api: Api) -> None:
    await api.bucket(allowed_mime_types=["", "image/png"])
    assert (await api.get("/bucket/b")).json()["allowed_mime_types"] == ["image/png"]


async def test_a_bucket_may_take_nothing_but_folders_of_the_dashboard(api: Api) -> None:
    await api.bucket(file_size_limit=0, allowed_mime_types=["image/png"])
    assert rejection(await api.upload(kind="image/png"))[1] == "413"
    await api.uploaded("b/folder/.emptyFolderPlaceholder", content=b"")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"file_size_limit": 10**12}, (400, "413", "Payload too large")),
        ({"file_size_limit": "1 parsec"}, (400, "400", "Error")),
        ({"file_size_limit": -1}, (400, "400", "Error")),
        ({"public": "yes"}, (400, "400", "Error")),
        ({"type": "other"}, (400, "400", "Error")),
        ({"allowed_mime_types": ["image"]}, (400, "415", "invalid_mime_type")),
        ({"allowed_mime_types": ["*/*\r\nX: y"]}, (400, "415", "invalid_mime_type")),
        ({"public": "perhaps"}, (400, "400", "Error")),
        ({"type": "ANALYTICS"}, (400, "409", "FeatureNotEnabled")),
    ],
)
async def test_rules_that_make_no_sense_are_rejected(
    api: Api, rules: dict[str, object], expected: tuple[int, str, str]
) -> None:
    assert rejection(await api.post("/bucket", {"name": "b", **rules}))[:3] == expected
    assert (await api.get("/bucket")).json() == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [("1kb", 1000), ("0.5KB", 500), ("1024", 1024), (1024.0, 1024), ("", None), (True, 1)],
)
async def test_the_most_that_a_bucket_takes_may_be_written(
    api: Api, size: Any, expected: int | None
) -> None:
    await api.bucket(file_size_limit=size)
    assert (await api.get("/bucket/b")).json()["file_size_limit"] == expected


@pytest.mark.parametrize(
    ("size", "faults"),
    [
        ("20 mb", ["must be integer", FINITE, PATTERN]),
        (0.5, ["must be integer", PATTERN]),
        (-1, ["must be >= 0", PATTERN]),
        ({}, ["must be integer", FINITE, "must be string"]),
    ],
)
async def test_all_is_named_that_a_size_is_not(api: Api, size: Any, faults: list[str]) -> None:
    response = await api.post("/bucket", {"name": "b", "file_size_limit": size})
    place = "body/file_size_limit"
    faults = [*faults, "must match a schema in anyOf"]
    assert response.json()["message"] == ", ".join(f"{place} {fault}" for fault in faults)


async def test_policies_decide_who_makes_sees_and_deletes_buckets(api: Api) -> None:
    ann, bob = api.token(ANN), api.token(BOB)
    assert rejection(await api.post("/bucket", {"name": "a"}, token=ann)) == hidden()
    api.rows(BUCKETS_OF_ANN)
    assert (await api.post("/bucket", {"name": "a"}, token=ann)).status_code == 200
    assert (await api.get("/bucket/a", token=ann)).json()["owner"] == str(ANN)
    await api.uploaded("a/x")
    for stranger in (bob, ANON):
        assert rejection(await api.post("/bucket", {"name": "c"}, token=stranger)) == hidden()
        assert (await api.get("/bucket", token=stranger)).json() == []
        for response in (
            await api.get("/bucket/a", token=stranger),
            await api.put("/bucket/a", {"public": True}, token=stranger),
            await api.delete("/bucket/a", token=stranger),
        ):
            assert rejection(response) == no_bucket()
    assert [each["id"] for each in (await api.get("/bucket", token=SERVICE)).json()] == ["a"]
    await api.post("/bucket/a/empty")
    assert (await api.delete("/bucket/a", token=ann)).status_code == 200


async def test_the_service_alone_empties_a_bucket(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "AT_ONCE", 2)
    await api.bucket()
    await api.uploaded("b/1", "b/2", "b/3")
    api.rows(BUCKETS_OF_ANN)
    for token in (api.token(ANN), ANON):
        response = await api.post("/bucket/b/empty", token=token)
        assert response.status_code == 403
        assert (response.json()["statusCode"], response.json()["message"]) == (
            "403",
            "Access denied: Invalid role",
        )
    assert len(await api.names()) == 3
    assert (await api.post("/bucket/b/empty")).status_code == 200
    assert (await api.names(), api.blobs()) == ([], [])


@pytest.mark.parametrize("path", ["", "/b", "/b/x/a.txt?transformations=true"])
async def test_the_service_alone_clears_caches(api: Api, path: str) -> None:
    for token in (api.token(ANN), ANON):
        response = await api.call("DELETE", f"/cdn{path}", token=token)
        assert (response.status_code, response.json()["message"]) == (
            403,
            "Access denied: Invalid role",
        )
    response = await api.call("DELETE", f"/cdn{path}", token=SERVICE)
    assert (response.status_code, response.json()) == (200, {"message": "success"})


@pytest.mark.parametrize("changes", [{}, {"name": "other"}])
async def test_a_change_that_changes_nothing_is_rejected(api: Api, changes: dict[str, Any]) -> None:
    await api.bucket()
    response = await api.put("/bucket/b", changes)
    assert rejection(response)[:2] == (400, "400")
    assert response.json()["message"] == (
        "body must have required property 'public', "
        "body must have required property 'file_size_limit', "
        "body must have required property 'allowed_mime_types', "
        "body must match a schema in anyOf"
    )


@pytest.mark.parametrize(
    ("headers", "is_shown"),
    [
        ({"x-client-info": "supabase-py/2.17.3"}, False),
        ({"x-client-info": "supabase-py/2.18.0"}, True),
        ({"user-agent": "supabase-py/storage3 v0.11.3"}, False),
        ({"user-agent": "supabase-py/storage3 v0.12.1"}, True),
        ({"x-client-info": "supabase-js/2.0.0"}, True),
    ],
)
async def test_older_clients_for_python_get_no_type_of_a_bucket(
    api: Api, headers: dict[str, str], is_shown: bool
) -> None:
    await api.bucket()
    [bucket] = (await api.get("/bucket", headers=headers)).json()
    assert ("type" in bucket) is is_shown


@pytest.mark.parametrize("types", ["*", "*/*", ["*/*"], ["*"]])
async def test_a_bucket_may_name_all_types(api: Api, types: str | list[str]) -> None:
    await api.bucket(allowed_mime_types=types)
    await api.uploaded("b/a", kind="a/b")
    shown = (await api.get("/bucket/b")).json()["allowed_mime_types"]
    assert shown == ([types] if isinstance(types, str) else types)


async def test_who_empties_a_bucket_with_others_is_not_rejected(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.bucket()
    await api.uploaded("b/1", "b/2")
    some_names = object_rows.names

    async def early(*arguments: Any, **named: Any) -> list[str]:
        names = await some_names(*arguments, **named)
        monkeypatch.setattr(object_rows, "names", some_names)
        await api.delete("/object/b", {"prefixes": names})
        return names

    monkeypatch.setattr(object_rows, "names", early)
    assert (await api.post("/bucket/b/empty")).status_code == 200
    assert await api.names() == []
