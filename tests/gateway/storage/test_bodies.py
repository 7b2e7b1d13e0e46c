"""What a request says: how it is read, and what is said of what it lacks."""

from typing import Any

import pytest
from tests.gateway.storage.api import Api, rejection


@pytest.mark.parametrize(
    ("call", "body", "message"),
    [
        ("DELETE /object/b", {}, "body must have required property 'prefixes'"),
        ("DELETE /object/b", {"prefixes": []}, "body/prefixes must NOT have fewer than 1 items"),
        ("DELETE /object/b", {"prefixes": {}}, "body/prefixes must be array"),
        ("DELETE /object/b", {"prefixes": [{}]}, "body/prefixes/0 must be string"),
        ("DELETE /object/b", ["x"], "body must be object"),
        ("DELETE /object/b", {"prefixes": ["\0"]}, "body must not hold the character NUL"),
        ("POST /object/list/b", {}, "body must have required property 'prefix'"),
        ("POST /object/list/b", {"prefix": "", "limit": 0}, "body/limit must be >= 1"),
        ("POST /object/list/b", {"prefix": "", "limit": "x"}, "body/limit must be integer"),
        ("POST /object/list/b", {"prefix": "", "offset": -1}, "body/offset must be >= 0"),
        (
            "POST /object/list/b",
            {"prefix": "", "sortBy": {"column": "id; DROP TABLE x"}},
            "body/sortBy/column must be equal to one of the allowed values",
        ),
        (
            "POST /object/list/b",
            {"prefix": "", "sortBy": {"order": "desc"}},
            "body/sortBy must have required property 'column'",
        ),
        (
            "POST /object/list-v2/b",
            {"sortBy": {"column": "last_accessed_at"}},
            "body/sortBy/column must be equal to one of the allowed values",
        ),
        ("POST /object/move", {"bucketId": "b"}, "body must have required property 'sourceKey'"),
        ("POST /object/sign/b/a", {}, "body must have required property 'expiresIn'"),
        ("POST /object/sign/b/a", {"expiresIn": 0}, "body/expiresIn must be >= 1"),
        ("POST /bucket", {}, "body must have required property 'name'"),
    ],
)
async def test_a_body_that_lacks_a_field_names_it(
    api: Api, call: str, body: Any, message: str
) -> None:
    method, _, path = call.partition(" ")
    assert rejection(await api.call(method, path, body)) == (400, "400", "Error", message)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"prefix": "\xed\xa0\x80"}'])
async def test_a_body_that_is_no_json_is_rejected(api: Api, content: bytes) -> None:
    kind = {"content-type": "application/json"}
    response = await api.post("/object/list/b", content=content, headers=kind)
    message = "Body is not valid JSON but content-type is set to 'application/json'"
    assert rejection(response) == (400, "400", "FastifyError", message)


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        (None, b"{}", "body must be object"),
        (None, b"", "body must be object"),
        ("text/plain", b"{}", "body must be object"),
        ("application/x-www-form-urlencoded", b"prefix=", "body must be object"),
        ("application/json", b"null", "body must be object"),
        ("nonsense", b"{}", "Invalid Content-Type header"),
        (
            "application/json",
            b"",
            "Body cannot be empty when content-type is set to 'application/json'",
        ),
        ("application/JSON; charset=utf-8", b"{}", "body must have required property 'prefix'"),
    ],
)
async def test_the_kind_of_a_body_decides_how_it_is_read(
    api: Api, kind: str | None, content: bytes, expected: str
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    # Before the token, which nobody looks at.
    response = await api.post("/object/list/b", content=content, headers=headers, token="x")
    assert (response.status_code, response.json()["message"]) == (400, expected)


async def test_a_body_of_which_nothing_depends_has_to_be_what_it_says(api: Api) -> None:
    await api.bucket()
    kind = {"content-type": "application/json"}
    for path in ("/object/b/a", "/object/upload/sign/b/a"):
        method = "POST" if "sign" in path else "DELETE"
        response = await api.call(method, path, content=b"", headers=kind)
        assert rejection(response)[2] == "FastifyError"
    for method, path in (("POST", "/bucket/b/empty"), ("DELETE", "/bucket/b")):
        response = await api.call(method, path, content=b"{", headers=kind)
        assert rejection(response)[2] == "FastifyError"
        assert (await api.call(method, path, content=b"", headers=kind)).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prefix": None, "limit": "1", "offset": True, "search": 1.0}, None),
        ({"prefix": ["a"], "limit": [1]}, None),
        ({"prefix": "", "limit": 1e20}, None),
        ({"prefix": "", "limit": None}, "body/limit must be >= 1"),
        ({"prefix": "", "limit": 1.5}, "body/limit must be integer"),
        ({"prefix": "", "limit": "Infinity"}, 'body/limit must pass "finite" keyword validation'),
        ({"prefix": {}}, "body/prefix must be string"),
        ({"prefix": "", "sortBy": None}, "body/sortBy must be object"),
        ({"limit": "x"}, "body must have required property 'prefix'"),
        ({"prefix": "", "limit": "x", "sortBy": {}}, "body/limit must be integer"),
    ],
)
async def test_what_has_another_type_is_turned_into_it_where_that_is_plain(
    api: Api, body: Any, message: str | None
) -> None:
    await api.bucket()
    response = await api.post("/object/list/b", body)
    if message is None:
        assert (response.status_code, response.json()) == (200, [])
    else:
        assert rejection(response) == (400, "400", "Error", message)


async def test_a_body_without_end_is_rejected(api: Api) -> None:
    kind = {"content-type": "application/json"}
    response = await api.post("/object/list/b", content=b" " * 5_000_000, headers=kind)
    assert rejection(response)[:2] == (400, "413")
