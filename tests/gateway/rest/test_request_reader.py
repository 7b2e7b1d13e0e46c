"""The heads of requests: which are the same, and what is kept of them."""

import pytest

from amphibase.gateway.rest.request.request import RequestReader

HEADERS = [(b"accept", b"*/*"), (b"authorization", b"Bearer a.b.c")]


def test_the_same_head_is_read_once() -> None:
    reader = RequestReader(["public"])
    request = reader.read("GET", "/works", HEADERS)
    assert reader.read("GET", "/works", [[*header] for header in HEADERS]) is request


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("HEAD", "/works", HEADERS),
        ("GET", "/tags", HEADERS),
        ("GET", "/works", [HEADERS[0], (b"authorization", b"Bearer a.b.d")]),
        ("GET", "/works", HEADERS[:1]),
        ("GET", "/works", [*HEADERS, (b"accept-profile", b"other")]),
    ],
    ids=["method", "path", "token", "no token", "schema"],
)
def test_a_head_that_differs_is_another_request(
    method: str, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    reader = RequestReader(["public", "other"])
    reader.read("GET", "/works", HEADERS)
    request = reader.read(method, path, headers)
    other = RequestReader(["public", "other"]).read(method, path, headers)
    assert vars(request) == vars(other)


def test_clients_cannot_fill_the_memory_with_heads() -> None:
    reader = RequestReader(["public"])
    long = [*HEADERS, (b"x-long", b"x" * 5000)]
    assert reader.read("GET", "/works", long) is not reader.read("GET", "/works", long)
    first = reader.read("GET", "/works", HEADERS)
    for number in range(1000):
        reader.read("GET", f"/works{number}", HEADERS)
    assert reader.read("GET", "/works", HEADERS) is not first


@pytest.mark.parametrize(
    ("authorization", "token"),
    [("Bearer a.b", "a.b"), ("bearer  a ", "a"), ("Bearer", ""), ("Basic a", None), ("", None)],
)
def test_the_token_is_that_of_the_scheme_bearer(authorization: str, token: str | None) -> None:
    headers = [(b"authorization", authorization.encode())]
    assert RequestReader(["public"]).read("GET", "/works", headers).bearer_token == token
