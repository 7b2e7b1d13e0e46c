"""The route class of the built-in routes: small bodies only."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from amphibase.errors import PayloadTooLarge
from amphibase.schemas import Problem

MAX_BODY_BYTES = 64 * 1024
"""No request of the built-in routes needs more."""


class _SmallRequest(Request):
    async def stream(self) -> AsyncGenerator[bytes, None]:
        length = self.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise PayloadTooLarge(f"The body must have at most {MAX_BODY_BYTES} bytes")
        received = 0
        async for chunk in super().stream():
            received += len(chunk)
            if received > MAX_BODY_BYTES:
                raise PayloadTooLarge(f"The body must have at most {MAX_BODY_BYTES} bytes")
            yield chunk


class SmallBodyRoute(APIRoute):
    """Refuses bodies over MAX_BODY_BYTES without reading on."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_small(request: Request) -> Response:
            small = _SmallRequest(request.scope, request.receive)
            await small.body()  # here, since FastAPI answers 400 to whatever parsing raises
            return await handle(small)

        return handle_small


def router(prefix: str, tag: str) -> APIRouter:
    """A router for built-in routes."""
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=SmallBodyRoute,
        responses={"default": {"model": Problem, "description": "What went wrong"}},
    )
