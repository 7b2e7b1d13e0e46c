"""The headers by which a service knows where a request came from."""

import pytest

from amphibase.gateway import forwarded

SCOPE = {"type": "http", "scheme": "https", "client": ("192.0.2.7", 4711)}


@pytest.mark.parametrize("length", [10, 100_000])
def test_no_host_fills_the_memory(length: int) -> None:
    host = b"h" * length
    forwarded._origin.cache_clear()
    headers = dict(forwarded.with_origin([], SCOPE, host))
    assert headers[b"x-forwarded-host"] == host
    assert forwarded._origin.cache_info().currsize == (1 if length < 256 else 0)


def test_what_the_client_says_of_its_origin_is_left_out() -> None:
    forged = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-real-ip", b"198.51.100.1")]
    headers = forwarded.with_origin([*forged, (b"accept", b"*/*")], SCOPE, b"api.example")
    assert not set(forged) & set(headers)
    assert (b"accept", b"*/*") in headers
    assert (b"x-forwarded-for", b"192.0.2.7") in headers
