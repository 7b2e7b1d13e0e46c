"""Listing, moving, copying and deleting files."""

import base64
from typing import Any

import pytest
from tests.gateway.storage.api import ANN, BOB, TEN, Api, no_object, rejection, taken

TREE = ("a.txt", "B.txt", "x/1.txt", "x/2.txt", "x/y/3.txt", "x_/4.txt")

ROWS = """
    INSERT INTO storage.objects (bucket_id, name, created_at, updated_at, metadata)
    SELECT 'b', name, now() + place * interval '1 ms', now() + place * interval '1 s',
        '{"size": 10, "mimetype": "text/plain"}'::jsonb
    FROM unnest(%s::text[]) WITH ORDINALITY AS each (name, place)
"""


def encoded(cursor: str) -> str:
    return base64.b64encode(cursor.encode()).decode()


@pytest.fixture
async def rows(api: Api) -> Api:
    """A bucket with folders, as far as a list shows."""
    await api.bucket()
    api.rows(ROWS, list(TREE))
    return api


@pytest.fixture
async def tree(api: Api) -> Api:
    """A bucket with files in folders."""
    await api.bucket()
    await api.uploaded(*(f"b/{path}" for path in TREE))
    return api


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["a.txt", "B.txt", "x/", "x_/"]),
        ({"prefix": "x"}, ["1.txt", "2.txt", "y/"]),
        ({"prefix": "x/"}, ["1.txt", "2.txt", "y/"]),
        ({"prefix": "x/y"}, ["3.txt"]),
        ({"prefix": "x_"}, ["4.txt"]),
        ({"prefix": "nope"}, []),
        ({"prefix": "%"}, []),
        ({"limit": 3}, ["a.txt", "B.txt", "x/"]),
        ({"limit": 2, "offset": 3}, ["x_/"]),
        ({"sortBy": {"column": "name", "order": "desc"}}, ["x_/", "x/", "B.txt", "a.txt"]),
        ({"sortBy": {"column": "created_at"}}, ["x/", "x_/", "a.txt", "B.txt"]),
        ({"sortBy": {"column": "created_at", "order": "desc"}, "limit": 3}, ["x_/", "x/", "B.txt"]),
        ({"search": "b"}, ["B.txt"]),
        ({"search": "X"}, ["x/", "x_/"]),
        ({"search": "_"}, []),
        ({"prefix": "x", "search": "2"}, ["2.txt"]),
    ],
)
async def test_a_folder_shows_its_folders_and_its_files(
    rows: Api, asked: dict[str, Any], expected: list[str]
) -> None:
    assert await rows.names(**asked) == expected


async def test_a_list_says_of_files_what_is_known_and_of_folders_nothing(rows: Api) -> None:
    file, _, folder = (await rows.post("/object/list/b", {"prefix": "x"})).json()
    assert folder == {
        "name": "y",
        "id": None,
        "updated_at": None,
        "created_at": None,
        "last_accessed_at": None,
        "metadata": None,
    }
    assert file.keys() == folder.keys()
    assert file["name"] == "1.txt"
    assert (file["metadata"]["size"], file["metadata"]["mimetype"]) == (10, "text/plain")
    assert file["created_at"].endswith("Z")


ALL = ["B.txt", "a.txt", "x/1.txt", "x/2.txt", "x/y/3.txt", "x_/4.txt"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ALL),
        ({"prefix": "x"}, ALL[2:]),
        ({"prefix": "x/"}, ALL[2:5]),
        ({"with_delimiter": True}, ["B.txt", "a.txt", "x/", "x_/"]),
        ({"with_delimiter": True, "prefix": "x"}, ["x/", "x_/"]),
        ({"with_delimiter": True, "prefix": "x/"}, ["x/1.txt", "x/2.txt", "x/y/"]),
        ({"sortBy": {"column": "name", "order": "desc"}}, ALL[::-1]),
        (
            {"sortBy": {"column": "created_at", "order": "asc"}},
            ["a.txt", "B.txt", "x/1.txt", "x/2.txt", "x/y/3.txt", "x_/4.txt"],
        ),
        (
            {"sortBy": {"column": "updated_at", "order": "desc"}, "with_delimiter": True},
            ["B.txt", "a.txt", "x_/", "x/"],
        ),
        (
            {"sortBy": {"column": "created_at", "order": "asc"}, "with_delimiter": True},
            ["a.txt", "B.txt", "x/", "x_/"],
        ),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_pages_give_everything_once_and_in_order(
    rows: Api, asked: dict[str, Any], expected: list[str], limit: int
) -> None:
    items: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        response = await rows.post("/object/list-v2/b", {**asked, **cursor, "limit": limit})
        page = response.json()
        names = [each["name"] for each in page["objects"] + page["folders"]]
        assert 0 < len(names) <= limit
        assert all(each["name"].endswith("/") for each in page["folders"])
        assert all(each["id"] for each in page["objects"])
        items += names if limit == 1 else sorted(names, key=expected.index)
        if not page["hasNext"]:
            assert "nextCursor" not in page
            break
        cursor = {"cursor": page["nextCursor"]}
    assert items == expected


async def test_an_entry_of_a_folder_has_its_own_name_beside_its_path(rows: Api) -> None:
    page = (await rows.post("/object/list-v2/b", {"prefix": "x/", "with_delimiter": True})).json()
    nothing = dict.fromkeys(("id", "updated_at", "created_at", "last_accessed_at", "metadata"))
    assert page["folders"] == [{"key": "y", "name": "x/y/", **nothing}]
    assert [each["key"] for each in page["objects"]] == ["1.txt", "2.txt"]


async def test_a_cursor_says_where_and_how_to_go_on(rows: Api) -> None:
    page = (await rows.post("/object/list-v2/b", {"limit": 1})).json()
    assert [*page] == ["hasNext", "nextCursor", "nextCursorKey", "folders", "objects"]
    assert (page["nextCursor"], page["nextCursorKey"]) == (encoded("l:B.txt"), "B.txt")
    asked = {"limit": 1, "sortBy": {"column": "created_at", "order": "desc"}}
    page = (await rows.post("/object/list-v2/b", asked)).json()
    last = page["objects"][0]
    assert page["nextCursor"] == encoded(
        f"l:{last['name']}\no:desc\nc:created_at\na:{last['created_at']}"
    )
    following = (await rows.post("/object/list-v2/b", {"cursor": encoded("l:a.txt")})).json()
    assert [each["name"] for each in following["objects"]] == ALL[2:]


@pytest.mark.parametrize(
    "cursor",
    ["x", "W10", encoded("z:x"), encoded("l:a\nc:created_at\na:never"), encoded("l:a\0"), "ä"],
)
async def test_a_cursor_that_no_page_gave_out_is_rejected(rows: Api, cursor: str) -> None:
    response = await rows.post("/object/list-v2/b", {"cursor": cursor})
    assert rejection(response)[:3] == (400, "400", "InvalidParameter")


async def test_a_file_moves_with_all_that_is_known_of_it(tree: Api) -> None:
    await tree.bucket("c")
    before = (await tree.get("/object/info/b/a.txt")).json()
    body = {"bucketId": "b", "sourceKey": "a.txt", "destinationKey": "x/new"}
    moved = await tree.post("/object/move", body)
    assert moved.json() == {"message": "Successfully moved"}
    assert rejection(await tree.get("/object/b/a.txt")) == no_object()
    body = {"bucketId": "b", "sourceKey": "x/new", "destinationKey": "a", "destinationBucket": "c"}
    assert (await tree.post("/object/move", body)).status_code == 200
    after = (await tree.get("/object/info/c/a")).json()
    for name in ("id", "etag", "created_at"):
        assert after[name] == before[name]
    assert (await tree.get("/object/c/a")).content == TEN


async def test_a_copy_is_a_file_of_its_own(tree: Api) -> None:
    metadata = base64.b64encode(b'{"by": "Ann"}').decode()
    await tree.uploaded("b/a", x_metadata=metadata, cache_control="max-age=60", kind="a/b")
    body = {"bucketId": "b", "sourceKey": "a", "destinationKey": "c"}
    copied = (await tree.post("/object/copy", body)).json()
    assert (copied["Key"], copied["name"], copied["bucket_id"]) == ("b/c", "c", "b")
    info = (await tree.get("/object/info/b/c")).json()
    assert (info["id"], info["metadata"]) == (copied["Id"], {"by": "Ann"})
    assert (info["content_type"], info["cache_control"]) == ("a/b", "max-age=60")
    assert info["size"] == 10
    await tree.delete("/object/b/a")
    assert (await tree.get("/object/b/c")).content == TEN


async def test_a_copy_can_say_other_things_and_replace(tree: Api) -> None:
    metadata = base64.b64encode(b'{"by": "Bob"}').decode()
    await tree.uploaded("b/a", content=b"new")
    body = {
        "bucketId": "b",
        "sourceKey": "a",
        "destinationKey": "B.txt",
        "copyMetadata": False,
        "metadata": {"cacheControl": "max-age=1", "mimetype": "c/d"},
    }
    assert rejection(await tree.post("/object/copy", body)) == taken()
    headers = {"x-upsert": "true", "x-metadata": metadata}
    assert (await tree.post("/object/copy", body, headers=headers)).status_code == 200
    info = (await tree.get("/object/info/b/B.txt")).json()
    assert (info["metadata"], info["content_type"]) == ({"by": "Bob"}, "c/d")
    assert info["cache_control"] == "max-age=1"
    assert (await tree.get("/object/b/B.txt")).content == b"new"
    assert len(tree.blobs()) == len(tree.rows("SELECT 1 FROM storage.objects"))


@pytest.mark.parametrize("call", ["move", "copy"])
async def test_the_limits_of_a_bucket_are_for_uploads_as_on_supabase(tree: Api, call: str) -> None:
    await tree.bucket("small", file_size_limit=1, allowed_mime_types=["image/*"])
    body = {
        "bucketId": "b",
        "sourceKey": "a.txt",
        "destinationKey": "a",
        "destinationBucket": "small",
    }
    assert (await tree.post(f"/object/{call}", body)).status_code == 200


async def test_a_copy_onto_itself_replaces_only_on_demand(tree: Api) -> None:
    body = {"bucketId": "b", "sourceKey": "a.txt", "destinationKey": "a.txt"}
    assert rejection(await tree.post("/object/copy", body)) == taken()
    body["metadata"] = {"mimetype": "image/png"}  # type: ignore[assignment]
    metadata = base64.urlsafe_b64encode(b'{"by": "???>>>"}').decode().rstrip("=")
    headers = {"x-upsert": "true", "x-metadata": metadata}
    for keeps, kind, by in ((True, "text/plain", None), (False, "image/png", {"by": "???>>>"})):
        changed = {**body, "copyMetadata": keeps}
        assert (await tree.post("/object/copy", changed, headers=headers)).status_code == 200
        info = (await tree.get("/object/info/b/a.txt")).json()
        assert (info["content_type"], info["metadata"] or None) == (kind, by)


async def test_a_moved_file_is_its_movers(api: Api) -> None:
    await api.bucket()
    api.rows("CREATE POLICY everybodys ON storage.objects FOR ALL TO authenticated USING (true)")
    await api.uploaded("b/a", token=api.token(ANN))
    body = {"bucketId": "b", "sourceKey": "a", "destinationKey": "b"}
    assert (await api.post("/object/move", body, token=api.token(BOB))).status_code == 200
    assert api.rows("SELECT owner, owner_id FROM storage.objects") == [(BOB, str(BOB))]
    body = {"bucketId": "b", "sourceKey": "b", "destinationKey": "a"}
    assert (await api.post("/object/move", body)).status_code == 200
    assert api.rows("SELECT owner, owner_id FROM storage.objects") == [(BOB, str(BOB))]
    [deleted] = (await api.delete("/object/b", {"prefixes": ["a"]})).json()
    assert (deleted["owner"], deleted["owner_id"]) == (str(BOB), str(BOB))


async def test_what_is_no_key_is_not_looked_for(api: Api) -> None:
    await api.bucket(public=True)
    for response in (
        await api.get("/object/public/b/ä", token=None),
        await api.get("/object/authenticated/b/ä"),
        await api.get("/object/info/b/ä"),
        await api.post("/object/sign/b/ä", {"expiresIn": 60}),
    ):
        assert rejection(response) == (400, "400", "InvalidKey", "Invalid key: ä")


async def test_any_number_of_files_is_deleted_at_once(tree: Api) -> None:
    names = ["a.txt", *(f"none {number}" for number in range(70_000))]
    response = await tree.delete("/object/b", {"prefixes": names})
    assert [each["name"] for each in response.json()] == ["a.txt"]


async def test_a_folder_is_listed_by_its_name_in_any_case(api: Api) -> None:
    await api.bucket()
    await api.uploaded("b/Folder/a", "b/folder/b", "b/other/c")
    response = await api.post("/object/list/b", {"prefix": "FOLDER"})
    assert [each["name"] for each in response.json()] == ["a", "b"]


NO_RELATED = (400, "404", "InvalidRequest", "The related resource does not exist")


@pytest.mark.parametrize("call", ["move", "copy"])
async def test_where_a_file_cannot_go_it_does_not(tree: Api, call: str) -> None:
    rows = tree.rows("SELECT bucket_id, name FROM storage.objects ORDER BY 2")
    for to, expected in [
        ({"destinationKey": "B.txt"}, taken()),
        ({"destinationKey": "ä"}, (400, "400", "InvalidKey", "Invalid key: ä")),
        ({"destinationKey": "../x"}, (400, "400", "InvalidKey", "Invalid key: ../x")),
        ({"destinationKey": ""}, (400, "400", "InvalidKey", "Invalid key: ")),
        ({"destinationKey": "x", "destinationBucket": "nope"}, NO_RELATED),
        ({"destinationKey": "x", "sourceKey": "nope"}, no_object()),
        ({"destinationKey": "x", "bucketId": "nope"}, no_object()),
    ]:
        body = {"bucketId": "b", "sourceKey": "a.txt", **to}
        rejected = rejection(await tree.post(f"/object/{call}", body))
        assert rejected[: len(expected)] == expected, to
    assert tree.rows("SELECT bucket_id, name FROM storage.objects ORDER BY 2") == rows
    assert len(tree.blobs()) == len(rows)


async def test_a_file_is_deleted_with_its_bytes(tree: Api) -> None:
    assert (await tree.delete("/object/b/x/1.txt")).json() == {"message": "Successfully deleted"}
    assert rejection(await tree.delete("/object/b/x/1.txt")) == no_object()
    assert len(tree.blobs()) == 5


async def test_many_files_are_deleted_at_once_and_listed(tree: Api) -> None:
    response = await tree.delete("/object/b", {"prefixes": ["a.txt", "x/2.txt", "nope", "x"]})
    deleted = response.json()
    assert sorted(each["name"] for each in deleted) == ["a.txt", "x/2.txt"]
    assert {each["bucket_id"] for each in deleted} == {"b"}
    assert deleted[0].keys() >= {"id", "owner", "created_at", "metadata", "version"}
    assert len(tree.blobs()) == 4
    assert (await tree.delete("/object/b", {"prefixes": ["a.txt"]})).json() == []


async def test_what_is_no_call_is_reported(api: Api) -> None:
    for method, path in [("PATCH", "/bucket"), ("GET", "/object/move"), ("GET", "/vector/x?a=%20")]:
        response = await api.call(method, path)
        assert (response.status_code, response.json()) == (
            404,
            {
                "statusCode": "404",
                "error": "Not Found",
                "message": f"Route {method}:{path} not found",
                "code": "InvalidRequest",
            },
        )
    response = await api.get("/nope")
    assert (response.status_code, response.json()) == (
        404,
        {"statusCode": 404, "error": "Not Found", "message": "Route GET:/nope not found"},
    )


async def test_nobody_stumbles_over_what_has_no_end_or_no_meaning(api: Api) -> None:
    await api.bucket()
    deep = b'{"prefix": "", "more": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    response = await api.post("/object/list/b", content=deep)
    assert response.status_code in (200, 400)
    for path in ("/bucket/%00", "/object/%00/a", "/object/b/%00", "/object/info/b/%00"):
        response = await api.get(path)
        assert (response.status_code, response.json()["statusCode"]) == (400, "400")
    for metadata in ("[1]", '"x"', "7", "null", '{"size": "x", "mimetype": 7, "lastModified": {}}'):
        api.rows("SET storage.allow_delete_query = 'true'; DELETE FROM storage.objects")
        api.rows(
            "INSERT INTO storage.objects (bucket_id, name, metadata, version) "
            "VALUES ('b', 'a', %s::jsonb, 'x')",
            metadata,
        )
        assert rejection(await api.get("/object/b/a")) == no_object()
        assert (await api.head("/object/b/a")).status_code == 200
        assert (await api.get("/object/info/b/a")).status_code == 200
        assert await api.names() == ["a"]
        body = {"bucketId": "b", "sourceKey": "a", "destinationKey": "b"}
        assert rejection(await api.post("/object/copy", body)) == no_object()
        assert (await api.post("/object/move", body)).status_code == 200
        assert (await api.delete("/object/b/b")).status_code == 200


async def test_the_members_of_responses_have_an_order(api: Api) -> None:
    await api.bucket()
    columns = ["name", "bucket_id", "owner", "owner_id", "version", "id"]
    columns += ["updated_at", "created_at", "last_accessed_at", "metadata", "user_metadata"]
    assert [*(await api.upload()).json()] == ["Key", "Id"]
    copy = {"bucketId": "b", "sourceKey": "a.txt", "destinationKey": "c.txt"}
    assert [*(await api.post("/object/copy", copy)).json()] == ["Key", "Id", *columns]
    [listed, _] = (await api.post("/object/list/b", {"prefix": ""})).json()
    assert [*listed] == ["name", *columns[5:10]]
    page = (await api.post("/object/list-v2/b", {})).json()
    assert [*page["objects"][0]] == ["id", "name", *columns[6:10]]
    [deleted] = (await api.delete("/object/b", {"prefixes": ["a.txt"]})).json()
    assert [*deleted] == columns
