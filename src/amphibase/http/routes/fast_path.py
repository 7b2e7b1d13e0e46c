"""The router of the built-in routes, with a fast path around the framework where nothing is lost.

FastAPI tries each route of an included router twice, opens two exit stacks and solves dependencies:
more than a row of the database costs. The routes that are requested most have a fast endpoint
beside their own, which takes the request alone and gives the same response, byte by byte (a test
compares them). `make bench-fast-path` measures what it saves, and `FAST_PATH=false` switches it
off.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from amphibase.private_names.fastapi import inclusion, is_traced

Endpoint = Callable[..., Any]
FastEndpoint = Callable[[Request], Awaitable[Response]]
Fast = TypeVar("Fast", bound=FastEndpoint)

FAST_ROUTE = "amphibase.fast_route"
"""Where the scope holds, from `matches` to `handle`, the route whose fast endpoint responds."""


class NotOnFastPath(Exception):
    """Raised by a fast endpoint for a request that the framework is to serve."""


class FastPathRouter(APIRouter):
    """Skips at once what is not under its prefix, and responds by fast endpoints where it may.

    It may for as long as nothing but the endpoint itself has a say: no route before it in the
    router, no dependency of the application, of a router or of the route, no override of a test,
    no limit of the body's size, no tracing. All else, and whatever is not known, is left to the
    framework. Which of the application's routes comes first is decided before, as always.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._fast_endpoints: dict[Endpoint, FastEndpoint] = {}

    def fast_path(self, endpoint: Endpoint) -> Callable[[Fast], Fast]:
        """Make the decorated function the fast endpoint of an endpoint of this router.

        The endpoint's path has parameters of text only, and no route of the router before it lacks
        one.
        """

        def register(fast: Fast) -> Fast:
            self._fast_endpoints[endpoint] = fast
            return fast

        return register

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if self.prefix.partition("{")[0] not in scope["path"]:
            return Match.NONE, {}
        fast = scope[FAST_ROUTE] = self._find(scope)
        return super().matches(scope) if fast is None else (Match.FULL, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        fast = scope.pop(FAST_ROUTE, None)
        if fast is not None:
            route, path_params = fast
            # As the framework leaves the scope to middleware that reads it afterwards.
            scope.update(route=route, endpoint=route.endpoint, path_params=path_params)
            try:
                response = await self._fast_endpoints[route.endpoint](Request(scope, receive))
            except NotOnFastPath:
                pass
            else:
                await response(scope, receive, send)
                return
        await super().handle(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[APIRoute, dict[str, str]] | None:
        """Return the route whose fast endpoint may respond, and the parameters of the path."""
        included = inclusion(scope, self)
        if (
            included is None
            or included.dependencies
            or included.max_body_size is not None
            or scope["type"] != "http"
            or scope["app"].dependency_overrides
            or is_traced(scope)
            or not _is_switched_on(scope)
        ):
            return None
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.startswith(included.prefix):
            return None
        path = path.removeprefix(included.prefix)
        for route in self.routes:
            if not isinstance(route, APIRoute) or route.endpoint not in self._fast_endpoints:
                return None
            match = route.path_regex.match(path)
            if match and scope["method"] in (route.methods or ()):
                if route.dependencies or route.max_body_size is not None:
                    return None
                return route, {**scope.get("path_params", {}), **match.groupdict()}
        return None


def _is_switched_on(scope: Scope) -> bool:
    db = getattr(scope["app"].state, "amphibase", None)
    return db is not None and db.settings.fast_path
