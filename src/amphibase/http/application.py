"""What the routes of an application work with: its settings, its keys, and what exists while it is
started."""

import contextlib
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING

from amphibase.errors import ConfigurationError
from amphibase.models import User
from amphibase.services.hooks import HookFunctions
from amphibase.settings.application import Settings, load_settings

if TYPE_CHECKING:
    from amphibase.accounts.jwt.key_ring import KeyRing
    from amphibase.http.limits import RateLimiter
    from amphibase.http.state import State

# What only a started application needs is imported when it starts: a command or a test that
# imports an application does not wait for it.


class Application:
    """An application, started or not.

    Args:
        settings: read from the environment and `.env` by default.
        user: the profile's class.
        requires_rls: whether it starts with `RLS=true` alone.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    def __init__(self, settings: Settings | None, user: type[User], *, requires_rls: bool) -> None:
        self.reads_environment = settings is None
        self.settings = settings or load_settings()
        self.user = user
        self.requires_rls = requires_rls
        self._state: State | None = None
        self._hooks = HookFunctions()

    def use(self, settings: Settings) -> None:
        """Use other settings from the next start on, in tests and scripts.

        What `mount` did stays as it is: the prefix, CORS and trusted proxies.

        Raises:
            ConfigurationError: the application has been started; stop it first.
        """
        if self._state is not None:
            raise ConfigurationError("The application has been started: stop it, then use()")
        prefix = self.settings.routes_prefix
        self.settings = settings.model_copy(update={"routes_prefix": prefix})
        for name in ("keys", "rate_limiter"):  # derived from the settings
            self.__dict__.pop(name, None)

    @cached_property
    def keys(self) -> "KeyRing":
        """The keys that sign and verify tokens.

        Raises:
            ConfigurationError: the key file cannot be read or holds no usable key.
        """
        from amphibase.accounts.jwt.key_ring import load_keys

        return load_keys(self.settings)

    @cached_property
    def rate_limiter(self) -> "RateLimiter":
        """The rate limits.

        Raises:
            ConfigurationError: the storage of `RATE_LIMIT_URL` cannot be used.
        """
        from amphibase.http.limits import RateLimiter

        return RateLimiter(self.settings)

    @property
    def state(self) -> "State":
        """The backend and services of the started application.

        Raises:
            ConfigurationError: the application has not been started.
        """
        if self._state is None:
            raise ConfigurationError(
                "The application has not been started: mount() it and let the server (or "
                "`with TestClient(app)`) run its lifespan"
            )
        return self._state

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator["State"]:
        """Open the backend; in development, make the tables that are missing.

        Raises:
            ConfigurationError: in production, the database is behind; or the application requires
                row level security and `RLS` is not true; says what to do.
            Unavailable: the database cannot be reached.
        """
        if self.requires_rls and not self.settings.rls:
            raise ConfigurationError(
                "RLS: this application requires row level security; set RLS=true and use Postgres"
            )
        from amphibase.build import open_backend
        from amphibase.http.state import State

        assert self.rate_limiter is not None  # built now, so that no request waits for it
        async with open_backend(self.settings, keys=self.keys) as backend:
            self._state = State(self.settings, backend, self.user, self._hooks)
            try:
                yield self._state
            finally:
                self._state = None
