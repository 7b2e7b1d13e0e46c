"""The router of the built-in routes, which spares the framework's work where that changes nothing.

FastAPI tries each route of an included router twice, opens two exit stacks and solves dependencies:
more than a row of the database costs. What is asked most has a lean twin of its endpoint, which
takes the request alone and gives the same answer.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

Endpoint = Callable[..., Any]
Lean = Callable[[Request], Awaitable[Response]]
Twin = TypeVar("Twin", bound=Lean)

FOUND = "amphibase.lean"
"""Where the scope holds, from `matches` to `handle`, which twin is to answer."""


class NotLean(Exception):
    """Raised by a lean twin for a request that the framework is to answer."""


class LeanRouter(APIRouter):
    """Passes over at once what is not under its prefix, and answers with lean twins where it may.

    It may for as long as nothing but the endpoint itself has a say: no route before it in the
    router, no dependency of the application, of a router or of the route, no override of a test,
    no limit of the body's size, no tracing. All else, and whatever cannot be told, is left to the
    framework. Whose turn it is among the application's routes is decided before, as ever.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._twins: dict[Endpoint, Lean] = {}

    def lean(self, endpoint: Endpoint) -> Callable[[Twin], Twin]:
        """Make the decorated function the lean twin of an endpoint of this router.

        The endpoint's path has parameters of text only, and no route of the router before it is
        without a twin.
        """

        def keep(twin: Twin) -> Twin:
            self._twins[endpoint] = twin
            return twin

        return keep

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if self.prefix.partition("{")[0] not in scope["path"]:
            return Match.NONE, {}
        found = scope[FOUND] = self._find(scope)
        return super().matches(scope) if found is None else (Match.FULL, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = scope.pop(FOUND, None)
        if found is not None:
            route, path_params = found
            # As the framework leaves it to whoever looks at the scope afterwards.
            scope.update(route=route, endpoint=route.endpoint, path_params=path_params)
            try:
                answer = await self._twins[route.endpoint](Request(scope, receive))
            except NotLean:
                pass
            else:
                await answer(scope, receive, send)
                return
        await super().handle(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[APIRoute, dict[str, str]] | None:
        """The route whose twin may answer, and the parameters of the path."""
        inclusion = self._inclusion(scope)
        if (
            inclusion is None
            or inclusion.dependencies
            or inclusion.max_body_size is not None
            or scope["type"] != "http"
            or scope["app"].dependency_overrides
            or "fastapi.telemetry" in scope
        ):
            return None
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.startswith(inclusion.prefix):
            return None
        path = path.removeprefix(inclusion.prefix)
        for route in self.routes:
            if not isinstance(route, APIRoute) or route.endpoint not in self._twins:
                return None
            match = route.path_regex.match(path)
            if match and scope["method"] in (route.methods or ()):
                if route.dependencies or route.max_body_size is not None:
                    return None
                return route, {**scope.get("path_params", {}), **match.groupdict()}
        return None

    def _inclusion(self, scope: Scope) -> Any:
        """How this router was included: the prefix and the dependencies of those around it. None
        where FastAPI, which keeps it to itself, does not say."""
        included = scope.get("fastapi", {}).get("included_router")
        if getattr(included, "original_router", None) is not self:
            return None
        return getattr(included, "include_context", None)
