"""A router whose routes are created when they are first needed, not when it is included."""

from collections.abc import Callable
from threading import RLock

from fastapi import FastAPI
from starlette.routing import BaseRoute

from amphibase.http.routes.fast_path import FastPathRouter


class DeferredRouter(FastPathRouter):
    """Creates its routes at the start of the application, or when they are first read.

    FastAPI analyses every parameter and response of a route as it is declared. Commands, tests
    and scripts that import an application without serving it need not wait for that.

    Args:
        prefix: of all its routes.
        build: makes the router that declares the routes, with the same prefix.
    """

    def __init__(self, prefix: str, build: Callable[[], FastPathRouter]) -> None:
        self._build: Callable[[], FastPathRouter] | None = None
        self._lock = RLock()
        super().__init__(prefix=prefix)
        self._build = build

    @property
    def routes(self) -> list[BaseRoute]:
        """Return the routes; make them at the first call."""
        with self._lock:
            if self._build is not None:
                built = self._build()
                self._build = None
                self._routes, self._fast_endpoints = built.routes, built._fast_endpoints
        return self._routes

    @routes.setter
    def routes(self, routes: list[BaseRoute]) -> None:
        self._routes = routes

    def include_in(self, app: FastAPI, prefix: str = "") -> None:
        """Include the router without making its routes, which FastAPI would look at now.

        Args:
            prefix: before the router's own.
        """
        with self._lock:
            build, self._build = self._build, None
            try:
                app.include_router(self, prefix=prefix)
            finally:
                self._build = build
