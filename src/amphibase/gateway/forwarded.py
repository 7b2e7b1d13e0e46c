"""The headers by which a service behind the gateway knows where a request came from.

Functions in SQL read them as `request.headers`, as Supabase's guides to rate limits by address do.
"""

import re
from functools import lru_cache

from starlette.types import Scope

Headers = list[tuple[bytes, bytes]]

_NAMES = frozenset(
    b"x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip".split()
)
_MAX_HOST_BYTES = 256
"""Of a host whose headers are cached, so that clients cannot fill the memory; names are shorter."""

_HOST = re.compile(rb"(.*?)(?::(\d+))?")
_PORTS = {"http": b"80", "https": b"443"}


def with_origin(headers: Headers, scope: Scope, host: bytes) -> Headers:
    """Return the headers with those of Kong in place of the client's own, which prove nothing.

    Args:
        scope: has the client's address and scheme, as trusted proxies report them.
        host: the header.
    """
    client = scope.get("client")
    make = _origin if len(host) <= _MAX_HOST_BYTES else _origin.__wrapped__
    origin = make(client[0] if client else "", scope["scheme"], host)
    return [*(header for header in headers if header[0] not in _NAMES), *origin]


@lru_cache(1000)
def _origin(address: str, scheme: str, host: bytes) -> Headers:
    match = _HOST.fullmatch(host)
    name, port = match.groups() if match else (host, None)
    return [
        (b"x-forwarded-for", address.encode()),
        (b"x-forwarded-host", name),
        (b"x-forwarded-port", port or _PORTS.get(scheme, b"")),
        (b"x-forwarded-proto", scheme.encode()),
        (b"x-real-ip", address.encode()),
    ]
