"""A route that skips the framework: for `GET /users/me`, which every page of an application asks.

The documented route behind it answers the same bytes (a test holds them equal) and takes over when
a test overrides dependencies.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from amphibase.errors import Unauthenticated, UserBanned
from amphibase.http.dependencies import amphibase_of, bearer, current_user
from amphibase.models import User
from amphibase.schemas import read_model

PATH = "/users/me"


class LeanMe(BaseRoute):
    """`GET /users/me`, without solving dependencies or validating what the database holds.

    Args:
        model: the profile's class.
    """

    def __init__(self, model: type[User]) -> None:
        self._model = model
        self._user_read = read_model(model)
        self.include_in_schema = False

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and scope["path"].removeprefix(scope.get("root_path", "")) == PATH
            and not scope["app"].dependency_overrides
        ):
            return Match.FULL, {}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        token = await bearer(request)
        if token is None:
            raise Unauthenticated
        running = amphibase_of(request).running
        caller, user = await running.backend.identify(token, self._model)
        if user is None:  # the first request of an account that was made elsewhere
            user = await current_user(request, caller)
        if not user.is_active:
            raise UserBanned
        body = self._user_read.model_validate(user).model_dump_json()
        await Response(body, media_type="application/json")(scope, receive, send)
