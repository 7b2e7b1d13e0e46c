"""Error responses: problem+json (RFC 9457) with a stable `code`, and no internals."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, WebSocket
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import Match
from starlette.status import WS_1008_POLICY_VIOLATION, WS_1011_INTERNAL_ERROR
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketState

from amphibase.blobs.drain import DrainingResponse
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    InvalidValue,
    PayloadTooLarge,
    RangeNotSatisfiable,
    Retryable,
    Unauthenticated,
    UnsupportedTusVersion,
)

CODES = {
    401: "not_authenticated",
    413: "payload_too_large",
    422: "validation_error",
    500: "internal_error",
    501: "not_supported",
    503: "unavailable",
}
"""Where the code of a status is not the status's name."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

MAX_PATH_CHARACTERS = 200
"""Of a path that an error names."""

OURS = frozenset({"type", "title", "status", "detail", "code", "request_id"})


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """Build an error response.

    Args:
        code: for programs; it does not change.
        detail: for people; it may change.
        more: further members of the problem document.
    """
    body = {
        "type": "about:blank",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    if request_id:
        body["request_id"] = request_id
    content = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status, headers=headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Respond to errors with problems, except where the application has a handler of its own."""
    handlers = app.exception_handlers
    handlers.setdefault(AmphibaseError, _ours)
    if handlers.get(RequestValidationError) in (None, request_validation_exception_handler):
        handlers[RequestValidationError] = _invalid
    if handlers.get(HTTPException) in (None, http_exception_handler):
        handlers[HTTPException] = _http


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, AmphibaseError)
    if error.status == 500:
        raise error
    headers = {}
    more: dict[str, Any] = {}
    if isinstance(error, Retryable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, UnsupportedTusVersion):
        headers |= {"Tus-Version": error.supported, "Tus-Resumable": error.supported}
    if isinstance(error, Conflict) and error.columns:
        more["columns"] = list(error.columns)
    if isinstance(error, InvalidValue) and error.field:
        message = error.detail.removeprefix(f"{error.field} ").removeprefix(f"{error.field}: ")
        more["errors"] = [{"field": error.field, "message": message, "code": error.code}]
    response = problem(
        error.status,
        error.code,
        error.detail,
        request_id=_request_id(request),
        headers=headers,
        **more,
    )
    if isinstance(error, PayloadTooLarge) and request.scope["http_version"] < "2":
        return DrainingResponse(response)
    return await _deliver(request, response)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was sent is not repeated: it may be a password.
    errors = [
        {"field": _field(item["loc"]), "message": _message(item), "code": item["type"]}
        for item in error.errors()
    ]
    first = errors[0] if errors else {"field": "", "message": "is not valid"}
    detail = f"{first['field']}: {first['message']}" if first["field"] else first["message"]
    return problem(422, "validation_error", detail, request_id=_request_id(request), errors=errors)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    if status in (204, 304):
        return Response(status_code=status, headers=error.headers)
    detail: Any = error.detail
    more: dict[str, Any] = {}
    if isinstance(detail, Mapping):  # an application's own members, which may say a better code
        more = {str(name): value for name, value in detail.items()}
        detail = more.get("detail")
    elif not isinstance(detail, str):
        more = {"errors": detail}
    headers = error.headers
    is_routers = type(error) is HTTPException and detail == _title(status)
    if status == 405:
        allowed = ", ".join(allowed_methods(request))
        headers = {**(headers or {}), "Allow": allowed}
        if is_routers:
            detail = f"{request.method} is not allowed here: the methods are {allowed}"
    elif status == 404 and is_routers:  # as a proxy may have changed it
        path = request.scope["path"][:MAX_PATH_CHARACTERS]
        detail = f"There is no route {request.scope.get('method', 'for a WebSocket at')} {path}"
    response = problem(
        status,
        str(more.get("code") or _code(status)),
        detail if isinstance(detail, str) else _title(status),
        request_id=_request_id(request),
        headers=headers,
        **{name: value for name, value in more.items() if name not in OURS},
    )
    return await _deliver(request, response)


async def _deliver(connection: HTTPConnection, response: Response) -> Response:
    """Return the response; deny with it a WebSocket's handshake, or close the WebSocket."""
    if not isinstance(connection, WebSocket):
        return response
    if connection.application_state is not WebSocketState.CONNECTING:
        failed = response.status_code >= 500
        await connection.close(WS_1011_INTERNAL_ERROR if failed else WS_1008_POLICY_VIOLATION)
    elif "websocket.http.response" in connection.scope.get("extensions", {}):
        await connection.send_denial_response(response)
    else:  # the server denies with 403
        await connection.close(WS_1008_POLICY_VIOLATION)
    return _Delivered()


class _Delivered(Response):
    """A response that there is nothing to send of any more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass


def allowed_methods(request: Request) -> list[str]:
    """Return the methods that the routes of the application have for a request's path.

    The framework names those of the first route alone (RFC 9110, section 10.2.1, requires all).
    """
    routes = request.app.router.routes
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    ]


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499, 520 and others that no standard knows
        return "Error"


def _code(status: int) -> str:
    try:
        return CODES.get(status) or HTTPStatus(status).name.lower()
    except ValueError:
        return "error"


def _field(location: Sequence[Any]) -> str:
    parts = (
        location[1:]
        if location and location[0] in ("body", "query", "path", "header")
        else location
    )
    return ".".join(str(part) for part in parts if isinstance(part, str))


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return "the body is not valid JSON"
    return str(error["msg"]).removeprefix("Value error, ")


def _request_id(request: Request) -> str | None:
    request_id: str | None = getattr(request.state, "request_id", None)
    return request_id
