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
