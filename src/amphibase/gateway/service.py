"""What the services of the gateway have in common: each is an ASGI application of its own."""

from typing import Protocol

from starlette.types import Receive, Scope, Send


class Service(Protocol):
    """One service, mountable alone at any path: it answers what comes after `root_path`.

    It starts by itself at its first request where nobody called `start` (an application that
    mounts it does not pass its lifespan on), and `close` may be called at any time after.
    """

    async def start(self) -> None:
        """Open what it needs; does nothing when it is started.

        Raises:
            ConfigurationError: a setting is wrong, or the database lacks something.
            Unavailable: the database does not answer.
        """

    async def close(self) -> None:
        """Let go of everything; requests under way end first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
