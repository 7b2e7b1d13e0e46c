"""Finds routes of an application that no request reaches, since one of Amphibase's comes first."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from amphibase.errors import ConfigurationError
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.private_names.fastapi import included

SAMPLES = {
    "int": "1",
    "float": "1.5",
    "uuid": "01890a5d-ac96-774b-bcce-b302099a8057",
    "path": "a/b",
}
"""A value of each kind of path parameter; `x` of the others."""

_PARAMETER = re.compile(r"{\w+(?::(\w+))?}")


@dataclass(frozen=True, slots=True)
class _OwnRoute:
    """A route of the application's own.

    Args:
        before: the routers of Amphibase that are matched before it.
    """

    path: str
    methods: Sequence[str]
    before: Sequence[BaseRoute]


def require_reachable(app: FastAPI) -> None:
    """Check that Amphibase's routes hide none of the application's own.

    A route counts as hidden where a request to it is served by a route that was added before.

    Raises:
        ConfigurationError: one is hidden; names it and what to do.
    """
    for route in _own_routes(app.router.routes, "", []):
        path = _PARAMETER.sub(lambda match: SAMPLES.get(match[1] or "", "x"), route.path)
        for method in route.methods:
            scope: Scope = {
                "type": "http",
                "app": app,
                "method": method,
                "path": path,
                "root_path": "",
                "path_params": {},
                "query_string": b"",
                "headers": [],
            }
            if any(earlier.matches(dict(scope))[0] is Match.FULL for earlier in route.before):
                raise ConfigurationError(
                    f"{method} {route.path} is never reached: a route of Amphibase, which was "
                    "added before it, serves its requests. Add yours before `db.mount(app)` or "
                    "`app.include_router(db.router(…))`, or give Amphibase's routes another prefix"
                )


def _own_routes(
    routes: Sequence[BaseRoute], prefix: str, before: list[BaseRoute]
) -> Iterator[_OwnRoute]:
    for route in routes:
        inclusion = included(route)
        if inclusion is None:
            if isinstance(route, Route):
                methods = sorted((route.methods or set()) - {"HEAD"})
                yield _OwnRoute(f"{prefix}{route.path}", methods, tuple(before))
            continue
        router, outer_prefix = inclusion
        if isinstance(router, FastPathRouter):
            if not prefix:  # one that is nested matches below its parents only
                before.append(route)
        else:
            yield from _own_routes(router.routes, f"{prefix}{outer_prefix}", before)
