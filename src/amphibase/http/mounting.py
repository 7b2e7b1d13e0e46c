"""Adds to a FastAPI application what `Amphibase.mount` promises."""

import contextlib
from collections.abc import AsyncIterator, Container
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from amphibase.http import problems
from amphibase.http.dependencies import TOKEN_PATH, bearer
from amphibase.http.middleware import RequestMiddleware
from amphibase.http.reachable import require_reachable
from amphibase.http.routes import built_in
from amphibase.http.start import report_unavailable
from amphibase.redaction import redact_logs
from amphibase.settings.application import Settings

if TYPE_CHECKING:
    from amphibase.http.application import Application


def mount(db: "Application", app: FastAPI, omitted: Container[str]) -> None:
    """Add routes, error responses, middleware and the lifespan.

    Args:
        omitted: the prefixes of built-in routes that are left out, such as `/files`.
    """
    app.state.amphibase = db
    redact_logs()  # also where `uvicorn main:app` serves it
    problems.install(app)
    for router in built_in(db.user):
        if router.prefix not in omitted:
            router.include_in(app, db.settings.routes_prefix)
    _locate_tokens(app, db.settings.routes_prefix.lstrip("/"))
    _add_middleware(app, db.settings)
    app.router.lifespan_context = _around(db, app.router.lifespan_context)


def _locate_tokens(app: FastAPI, prefix: str) -> None:
    """Let the Authorize button of the documentation find `/auth/token` below the prefix."""
    make_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        schema = make_openapi()
        schemes = schema.get("components", {}).get("securitySchemes", {})
        password = schemes.get(bearer.scheme_name, {}).get("flows", {}).get("password")
        if password is not None:
            password["tokenUrl"] = f"{prefix}/{TOKEN_PATH}"
        return schema

    if prefix:
        app.openapi = openapi  # type: ignore[method-assign]


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    # Added innermost first: a web page may read an error response too, so CORS comes after.
    app.add_middleware(RequestMiddleware, body_seconds=settings.body_timeout)
    if settings.cors_origins:
        from amphibase.http.routes.files import EXPOSED_HEADERS

        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After", *EXPOSED_HEADERS],
        )
    if settings.trusted_proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))


def _around(db: "Application", inner: Lifespan[Any]) -> Lifespan[Any]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        require_reachable(app)
        for router in built_in(db.user):
            assert router.routes  # built now, so that no request waits for them
        async with db.started():
            await report_unavailable(db)
            async with inner(app) as state:
                yield state

    return lifespan
