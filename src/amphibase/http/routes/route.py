"""The route classes of the built-in routes: bodies of a limited size only."""

import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, ClassVar

from fastapi import HTTPException, Request, Response
from fastapi.params import Form
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope

from amphibase.errors import PayloadTooLarge
from amphibase.http.problem_responses import OTHER_PROBLEMS
from amphibase.http.routes.fast_path import FastPathRouter

MAX_BODY_BYTES = 64 * 1024
"""No request of the built-in routes needs more."""

MAX_RECORD_BYTES = 1024 * 1024
"""The most that a row may be sent with."""

JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)


class _LimitedRequest(Request):
    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        super().__init__(scope, receive)
        self._limit = limit

    async def stream(self) -> AsyncGenerator[bytes, None]:
        length = self.headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,12}", length) or int(length) > self._limit:
            raise self._too_large()
        received = 0
        async for chunk in super().stream():
            received += len(chunk)
            if received > self._limit:
                raise self._too_large()
            yield chunk

    async def json(self) -> Any:
        try:
            return await super().json()
        except (ValueError, RecursionError) as error:
            # Bad UTF-8, a number of thousands of digits, brackets without an end: all the same.
            raise json.JSONDecodeError(type(error).__name__, "", 0) from None

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body must have at most {self._limit} bytes")


class SmallBodyRoute(APIRoute):
    """Rejects bodies over a limit without reading on."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        is_form = isinstance(self.body_field.field_info, Form)

        async def handle_limited(request: Request) -> Response:
            limited = _LimitedRequest(request.scope, request.receive, self.max_body_bytes)
            # Read here, since FastAPI responds with 400 to any parsing error.
            if await limited.body() and not is_form:
                _check_type(request.headers.get("content-type", ""))
            return await handle(limited)

        return handle_limited


class RecordRoute(SmallBodyRoute):
    """Takes a row."""

    max_body_bytes = MAX_RECORD_BYTES


def _check_type(content_type: str) -> None:
    if not JSON_TYPE.fullmatch(content_type):
        raise HTTPException(415, "Send JSON, and the header Content-Type: application/json")


def built_in_router(
    prefix: str = "", tag: str | None = None, route: type[APIRoute] = SmallBodyRoute
) -> FastPathRouter:
    """Return a router for built-in routes.

    Args:
        tag: of the documentation; None for a router that another includes, whose tag it gets.
    """
    return FastPathRouter(
        prefix=prefix,
        tags=None if tag is None else [tag],
        route_class=route,
        responses=OTHER_PROBLEMS,
    )
