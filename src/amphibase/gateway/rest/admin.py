"""The server beside the Data API that says whether it is ready, as PostgREST's admin server does
(https://docs.postgrest.org/en/v14/references/admin_server.html)."""

from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from amphibase.gateway.service import deny_websocket


class AdminApp:
    """An ASGI application with `/live` and `/ready`, which show nothing of the project.

    Args:
        is_ready: whether the Data API's database is connected, and its catalog read.
    """

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await deny_websocket(scope, receive, send)
            return
        status = 404
        if scope["path"] == "/live":
            status = 200  # of the same process as the Data API
        elif scope["path"] == "/ready":
            status = 200 if self._is_ready() else 503
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body"})
