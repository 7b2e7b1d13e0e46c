"""`Amphibase`: what an application holds, and what binds it to FastAPI."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from pydantic import BaseModel

from amphibase.errors import ConfigurationError
from amphibase.http.application import Application
from amphibase.http.dependencies import (
    changes_of,
    repository_of,
    supabase_of,
    topic_feed_of,
)
from amphibase.http.messages import MessageFeed
from amphibase.http.mounting import mount
from amphibase.http.presence import PresenceFeed
from amphibase.models import User, keeps_changes
from amphibase.records.adoption import adopt
from amphibase.records.change_stream import require_log
from amphibase.records.derived import create_schema, read_model, update_schema
from amphibase.services.hooks import (
    AfterSignUp,
    BeforeSignUp,
    BeforeToken,
    Hook,
    require_async,
)
from amphibase.settings.application import ROUTES_PREFIX, Settings

BeforeSignUpHook = TypeVar("BeforeSignUpHook", bound=BeforeSignUp)
AfterSignUpHook = TypeVar("AfterSignUpHook", bound=AfterSignUp)
BeforeTokenHook = TypeVar("BeforeTokenHook", bound=BeforeToken)

if TYPE_CHECKING:
    from amphibase.backend import Caller, Topic


class Amphibase(Application):
    """Users, sign-in and records for a FastAPI application.

    It is built without an event loop, opens nothing until the application starts, and can be
    started again after it has stopped.

    Args:
        settings: read from the environment and `.env` by default.
        user: the profile's class, `User` or a subclass of it.
        requires_rls: True where the application relies on policies of its own in the database: it
            does not start unless `RLS=true`, so that forgetting the setting opens nothing.

    Raises:
        ConfigurationError: a setting is wrong; says which, and gives an example.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        user: type[User] = User,
        requires_rls: bool = False,
    ) -> None:
        super().__init__(settings, user, requires_rls=requires_rls)
        self._repositories: dict[type[Any], Depends] = {}
        self._changes: dict[type[Any], Depends] = {}
        self._messages: dict[Topic, Depends] = {}
        self._presence: dict[Topic, Depends] = {}

    def mount(
        self,
        app: FastAPI,
        *,
        prefix: str | None = None,
        auth: bool = True,
        users: bool = True,
        files: bool = True,
    ) -> FastAPI:
        """Add `/auth`, `/users`, `/files`, `/health`, public keys, error responses, the lifespan.

        The application's own lifespan runs inside Amphibase's, so that it finds the database
        open.

        Args:
            prefix: before all of these routes, such as `/api`; `ROUTES_PREFIX` by default.
                Links in emails, signed URLs and the documentation follow it.
            auth: whether to add `/auth`; without it there is no sign-in over HTTP.
            users: whether to add `/users`.
            files: whether to add `/files`.

        Returns:
            The same application.

        Raises:
            ConfigurationError: the prefix is not a path such as `/api`.
        """
        if prefix is not None:
            if not re.fullmatch(ROUTES_PREFIX, prefix):
                raise ConfigurationError(f"prefix: {prefix!r} is not a path such as /api")
            self.settings = self.settings.model_copy(update={"routes_prefix": prefix})
        parts = {"/auth": auth, "/users": users, "/files": files}
        mount(self, app, omitted=[path for path, is_added in parts.items() if not is_added])
        return app

    def before_sign_up(self, function: BeforeSignUpHook) -> BeforeSignUpHook:
        """Register a function that decides on sign-ups, as a decorator.

            @db.before_sign_up
            async def only_colleagues(attempt: SignUpAttempt) -> None:
                if not attempt.email.endswith("@example.com"):
                    raise Forbidden("Use your address at example.com")

        It is called before a sign-up or the acceptance of an invitation is stored, in no
        transaction, and what it raises is the response.

        Raises:
            ConfigurationError: it is not an async function, or the application has been started.
        """
        return self._register(self._hooks.before_sign_up, function)

    def after_sign_up(self, function: AfterSignUpHook) -> AfterSignUpHook:
        """Register a function that adds what belongs to a new account, as a decorator.

            @db.after_sign_up
            async def add_membership(account: Account, transaction: Transaction) -> None:
                await transaction.repository(Membership).add(Membership(user_id=account.id))

        It is called when a sign-up or an invitation has become an account with its profile, as the
        service and in the same transaction where the backend can: if it raises, none of it is
        stored.

        Raises:
            ConfigurationError: it is not an async function, or the application has been started.
        """
        return self._register(self._hooks.after_sign_up, function)

    def before_token(self, function: BeforeTokenHook) -> BeforeTokenHook:
        """Register a function that returns claims for access tokens, as a decorator.

            @db.before_token
            async def add_plan(
                account: Account, claims: Claims, transaction: Transaction
            ) -> dict[str, Any]:
                return {"plan": "free"}

        It is called for every access token, when a session is opened and when it is refreshed.

        Raises:
            ConfigurationError: it is not an async function, or the application has been started.
        """
        return self._register(self._hooks.before_token, function)

    def _register(self, functions: list[Any], function: Hook) -> Hook:
        require_async(function)
        if self._state is not None:
            raise ConfigurationError("The application has been started: register hooks before")
        functions.append(function)
        return function

    def repository(self, model: type[Any]) -> Depends:
        """Return a dependency that gives a request the rows of a model, as its caller may use them.

            Notes = Annotated[Repository[Note], db.repository(Note)]

        It is the same object for the same model; tests name its `.dependency` in
        `app.dependency_overrides`. A model of another MetaData than Base's, such as SQLModel's, is
        adopted: its tables are created and migrated with the others.

        Raises:
            ConfigurationError: two models have a table of the same name.
        """
        dependency = self._repositories.get(model)
        if dependency is None:
            adopt(model)
            dependency = self._repositories[model] = Depends(repository_of(model))
        return dependency

    def changes(self, model: type[Any]) -> Depends:
        """Return a dependency that gives a request the changes of a model's rows, as its caller may
        see them.

            NoteChanges = Annotated[ChangeFeed[Note], db.changes(Note)]

        The model says `__changes__ = True`. It is the same object for the same model.

        Raises:
            ConfigurationError: two models have a table of the same name.
            InvalidRequest: the model does not say it.
        """
        dependency = self._changes.get(model)
        if dependency is None:
            adopt(model)
            require_log(model)
            dependency = self._changes[model] = Depends(changes_of(model))
        return dependency

    def messages(self, topic: "Topic") -> Depends:
        """Return a dependency that gives a request a topic, to publish on and to subscribe to as
        its caller.

            RoomMessages = Annotated[MessageFeed, db.messages(ROOMS)]

        The parameters of the topic are those of the route's path. It is the same object for the
        same topic.
        """
        return self._messages.setdefault(topic, Depends(topic_feed_of(MessageFeed, topic)))

    def presence(self, topic: "Topic") -> Depends:
        """Return a dependency that gives a request the presence of a topic, to be seen there and to
        see who else is, as its caller.

            RoomPresence = Annotated[PresenceFeed, db.presence(ROOMS)]

        The parameters of the topic are those of the route's path. It is the same object for the
        same topic.
        """
        return self._presence.setdefault(topic, Depends(topic_feed_of(PresenceFeed, topic)))

    def supabase(self, caller: "Caller | None" = None) -> Depends:
        """Return a dependency that gives a request the official Supabase client, as one caller.

            Client = Annotated[supabase.AsyncClient, db.supabase()]

        It is new for each request, so that nobody is signed in by another's request. On a backend
        that is no Supabase project the route raises NotSupported.

        Args:
            caller: `SERVICE`, whom no policy limits; the sender of the request by default.
        """
        return Depends(supabase_of(caller))

    def schema(self, model: type[Any]) -> type[BaseModel]:
        """Return the pydantic model of what callers see of a row; columns with
        `info={"read": service}` are not in it."""
        return read_model(model)

    def create_schema(self, model: type[Any]) -> type[BaseModel]:
        """Return the pydantic model of a new row; columns that the server sets are rejected."""
        return create_schema(model)

    def update_schema(self, model: type[Any]) -> type[BaseModel]:
        """Return the pydantic model of a row's changes: what is not sent is not changed."""
        return update_schema(model)

    def router(
        self,
        model: type[Any],
        *,
        prefix: str | None = None,
        tags: Sequence[str] | None = None,
        dependencies: Sequence[Depends] = (),
        aggregates: bool = False,
    ) -> APIRouter:
        """Generate the routes of a model, for `app.include_router`: a list with filters, order and
        cursor, and one row to read, add, change and delete, as far as the model's access can allow
        it to any caller.

        Args:
            prefix: where the routes are; `/` and the name of the table by default.
            tags: of the documentation; the name of the table by default.
            dependencies: dependencies of every route, such as `Depends(admin_user)`.
            aggregates: whether `/aggregate` counts and sums the rows that the caller sees, which
                costs the more the more they are.

        Raises:
            NotSupported: the key has several columns.
            ConfigurationError: only the service may use the model.
        """
        from amphibase.http.routes import records

        return records.routes(
            model,
            self.repository(model),
            self.changes(model) if keeps_changes(model) else None,
            prefix=prefix,
            tags=tags,
            dependencies=dependencies,
            aggregates=aggregates,
        )
