"""What FastAPI puts into the scope of a request: how its router was included.

The fast path has to know every dependency of the routers around it. Where FastAPI does not say, or
says it elsewhere, nothing is found, and the framework serves the request.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import APIRouter
from starlette.routing import BaseRoute
from starlette.types import Scope

USED = {
    "the original_router and include_context of an included router": "http/reachable.py",
    "the scope's fastapi.included_router.original_router": "http/routes/fast_path.py",
    "the scope's fastapi.included_router.include_context": "http/routes/fast_path.py",
}


class Inclusion(Protocol):
    """How a router was included.

    Attributes:
        prefix: of the routers around it, without its own.
        dependencies: of the application and the routers around it.
        max_body_size: in bytes; None for no limit.
    """

    prefix: str
    dependencies: Sequence[Any]
    max_body_size: int | None


def inclusion(scope: Scope, router: object) -> Inclusion | None:
    """Return how a router was included by the application that serves a request; None where that
    is not known."""
    included = scope.get("fastapi", {}).get("included_router")
    if getattr(included, "original_router", None) is not router:
        return None
    inclusion: Inclusion | None = getattr(included, "include_context", None)
    return inclusion


def included(route: BaseRoute) -> tuple[APIRouter, str] | None:
    """Return the router that an entry of a router's routes includes, and the prefix around it;
    None for a route, and where that is not known."""
    router = getattr(route, "original_router", None)
    prefix = getattr(getattr(route, "include_context", None), "prefix", None)
    if not isinstance(router, APIRouter) or not isinstance(prefix, str):
        return None
    return router, prefix


def is_traced(scope: Scope) -> bool:
    """Return whether FastAPI records telemetry of a request."""
    return "fastapi.telemetry" in scope
