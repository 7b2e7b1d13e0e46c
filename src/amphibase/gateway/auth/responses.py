"""Responses in JSON."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response


def respond(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response in JSON."""
    return JSONResponse(body, status, headers)


def respond_uncached(body: Mapping[str, Any]) -> Response:
    """Return a response with tokens, which no cache may store (RFC 6749, section 5.1)."""
    return respond(body, headers={"cache-control": "no-store"})
