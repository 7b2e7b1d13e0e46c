"""`Amphibase`: what an application holds, and what binds it to FastAPI."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from amphibase.build import build_backend
from amphibase.errors import ConfigurationError
from amphibase.http import problems
from amphibase.http.limits import Gate
from amphibase.http.middleware import Surroundings
from amphibase.http.routes import auth, files, health, users
from amphibase.http.routes.lean import LeanMe
from amphibase.models import Base, User
from amphibase.services.auth import AuthService
from amphibase.services.files import FileService
from amphibase.services.resumable import ResumableUploads
from amphibase.services.users import UserService
from amphibase.settings import Settings, load_settings
from amphibase.sql.backend import SqlBackend
from amphibase.sql.schema import ensure, pending
from amphibase.tokens import KeyRing, load_keys


class Running:
    """What exists between start and stop: the backend and the services over it."""

    def __init__(self, settings: Settings, keys: KeyRing, user: type[User]) -> None:
        self.backend: SqlBackend = build_backend(settings, keys)
        self.users: UserService[Any] = UserService(self.backend, user)
        self.files = FileService(
            self.backend.files,
            max_bytes=settings.max_upload_bytes,
            allowed_types=settings.allowed_types,
        )
        self.uploads = ResumableUploads(settings.data_dir / "unfinished", self.files)
        self.auth: AuthService[Any] = AuthService(self.backend.accounts, self.users, user)


class Amphibase:
    """Users, sign-in and records for a FastAPI application.

    It is built without an event loop, opens nothing until the application starts, and can be
    started again after it has stopped.

    Args:
        settings: read from the environment and `.env` where not given.
        user: the profile's class, `User` or a subclass of it.

    Raises:
        ConfigurationError: a setting is wrong; says which, and gives an example.
    """

    def __init__(self, settings: Settings | None = None, *, user: type[User] = User) -> None:
        self.settings = settings or load_settings()
        self.user = user
        self.keys = load_keys(self.settings)
        self.gate = Gate(self.settings)
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """The backend and services of the started application.

        Raises:
            ConfigurationError: the application has not been started.
        """
        if self._running is None:
            raise ConfigurationError(
                "The application has not been started: mount() it and let the server (or "
                "`with TestClient(app)`) run its lifespan"
            )
        return self._running

    def mount(self, app: FastAPI) -> FastAPI:
        """Add `/auth`, `/users`, `/files`, `/health`, public keys, error answers and the lifespan.

        The application's own lifespan runs inside Amphibase's, so that it finds the database
        open.

        Returns:
            The same application.
        """
        app.state.amphibase = self
        problems.install(app)
        app.router.routes.insert(0, LeanMe(self.user))
        app.include_router(auth.routes(self.user))
        app.include_router(users.routes(self.user))
        app.include_router(files.routes())
        app.include_router(health.router)
        # Added innermost first.
        if self.settings.cors_origins:
            app.add_middleware(
                CORSMiddleware,
                allow_origins=self.settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["X-Request-ID", "Retry-After", *files.EXPOSED_HEADERS],
            )
        app.add_middleware(Surroundings)
        if self.settings.trusted_proxies:
            app.add_middleware(
                ProxyHeadersMiddleware, trusted_hosts=list(self.settings.trusted_proxies)
            )
        app.router.lifespan_context = self._around(app.router.lifespan_context)
        return app

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[Running]:
        """Open the backend; in development, make the tables that are missing.

        Raises:
            ConfigurationError: in production, the database is behind; says what to run.
            Unavailable: the database cannot be reached.
        """
        running = Running(self.settings, self.keys, self.user)
        try:
            if self.settings.environment == "development":
                await ensure(running.backend.database, self.settings, Base.metadata)
            else:
                await pending(running.backend.database, self.settings, Base.metadata)
            self._running = running
            yield running
        finally:
            self._running = None
            await running.backend.close()

    def _around(self, inner: Lifespan[Any]) -> Lifespan[Any]:
        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[Any]:
            async with self.started(), inner(app) as state:
                yield state

        return lifespan
