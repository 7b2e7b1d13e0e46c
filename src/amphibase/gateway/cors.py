"""The headers by which a browser lets pages of other origins call the gateway, as Kong has them."""

from collections.abc import Mapping, Sequence

Headers = list[tuple[bytes, bytes]]

METHODS = b"GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT"
EXPOSES = (
    b"access-control-expose-headers",
    b", ".join(
        b"Content-Encoding Content-Language Content-Length Content-Location Content-Profile "
        b"Content-Range Content-Type Date ETag Last-Modified Link Location Preference-Applied "
        b"Proxy-Status Range-Unit Retry-After Server Tus-Resumable Tus-Version Tus-Extension "
        b"Tus-Max-Size Upload-Offset Upload-Length Upload-Metadata Upload-Expires "
        b"Upload-Defer-Length X-Supabase-Api-Version X-Total-Count".split()
    ),
)
OPEN: Headers = [(b"access-control-allow-origin", b"*")]
"""Any page may call: a caller authenticates by a token that it sends itself, never by a cookie."""

OPEN_TO_PAGE: Headers = [*OPEN, EXPOSES]
"""As PostgREST, which names the headers in responses to pages alone: they are long to check and to
send."""


def cors_headers(allowed_origins: Sequence[str], origin: bytes | None) -> Headers:
    """Return the headers by which a browser lets a page have a response.

    Args:
        allowed_origins: of the pages that may call; none for all.
        origin: of the page; None where no page asks.
    """
    if not allowed_origins:
        return OPEN if origin is None else OPEN_TO_PAGE
    if origin is None or origin.decode("latin-1") not in allowed_origins:
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        EXPOSES,
    ]


def is_preflight(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser asks with OPTIONS what a page may send."""
    return bool(headers.get(b"origin")) and b"access-control-request-method" in headers


def preflight_headers(headers: Mapping[bytes, bytes], cors: Headers) -> Headers:
    """Return the headers of the response to that.

    Args:
        headers: of the request.
        cors: as `cors_headers` returns them; none if the page may send nothing.
    """
    if not cors:
        return []
    allowed = [
        *(header for header in cors if header is not EXPOSES),
        (b"access-control-allow-methods", METHODS),
        (b"access-control-max-age", b"3600"),
    ]
    requested = headers.get(b"access-control-request-headers")
    if requested is not None:
        allowed.append((b"access-control-allow-headers", requested))
    return allowed
