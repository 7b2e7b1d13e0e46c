"""The built-in routes, one module for each path that they begin with."""

from functools import cache

from amphibase.http.routes.deferred import DeferredRouter
from amphibase.http.routes.fast_path import FastPathRouter
from amphibase.models import User

# The modules are imported when their routes are created: see DeferredRouter.


@cache
def built_in(user: type[User]) -> tuple[DeferredRouter, ...]:
    """Return the built-in routers, the same for all applications with this profile."""

    def auth() -> FastPathRouter:
        from amphibase.http.routes.auth import router

        return router.routes(user)

    def users() -> FastPathRouter:
        from amphibase.http.routes import users

        return users.routes(user)

    def files() -> FastPathRouter:
        from amphibase.http.routes import files

        return files.router

    def health() -> FastPathRouter:
        from amphibase.http.routes import health

        return health.router

    def keys() -> FastPathRouter:
        from amphibase.http.routes import health

        return health.keys_router

    return (
        DeferredRouter("/auth", auth),
        DeferredRouter("/users", users),
        DeferredRouter("/files", files),
        DeferredRouter("/health", health),
        DeferredRouter("/.well-known", keys),
    )
