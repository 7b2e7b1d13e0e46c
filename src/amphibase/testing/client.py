"""An httpx client on an application, without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
from fastapi import FastAPI

from amphibase.http.dependencies import mounted_on

PASSWORD = "correct horse battery staple"
BASE_URL = "http://testserver"


class Client(httpx.AsyncClient):
    """An httpx client that can sign users in.

    Attributes:
        user: the profile of the signed-in user; None while anonymous.
    """

    user: Any = None

    def __init__(self, app: FastAPI, **options: Any) -> None:
        self._app = app
        super().__init__(transport=httpx.ASGITransport(app=app), base_url=BASE_URL, **options)

    async def as_user(
        self, email: str = "user@example.com", *, name: str = "", admin: bool = False
    ) -> Self:
        """Return a client signed in as that user, who is created if missing.

        Args:
            admin: whether the user is an administrator.
        """
        state = mounted_on(self._app).state
        account = await state.backend.accounts.get_by_email(email)
        if account is None:
            user = await state.users.create(email, password=PASSWORD, name=name, admin=admin)
        else:
            user = await state.users.administrate(account.id, password=PASSWORD, admin=admin)
        result = await state.auth.sign_in(email, PASSWORD)
        assert result.tokens is not None
        client = type(self)(
            self._app, headers={"Authorization": f"Bearer {result.tokens.access_token}"}
        )
        client.user = user
        return client


@asynccontextmanager
async def open_client(app: FastAPI) -> AsyncIterator[Client]:
    """Start the application and open an anonymous client on it."""
    async with app.router.lifespan_context(app), Client(app) as client:
        yield client
