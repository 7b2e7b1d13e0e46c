"""What routes ask for: the caller, the user, a session of the database.

Each comes as a function, to be named in `app.dependency_overrides`, and as an alias to write into
signatures, of WebSocket routes too.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from amphibase.backend import (
    ANONYMOUS,
    Caller,
    Device,
    Model,
    Repository,
    Topic,
    TopicAddress,
)
from amphibase.errors import (
    ConfigurationError,
    InvalidRequest,
    NotAdmin,
    NotFound,
    SessionEnded,
    Unauthenticated,
    UserBanned,
)
from amphibase.http.changes import ChangeFeed
from amphibase.http.topic_feed import TopicFeed
from amphibase.models import User

if TYPE_CHECKING:
    from amphibase.http.application import Application
    from amphibase.http.state import State

MAX_USER_AGENT_CHARACTERS = 512
READING_METHODS = ("GET", "HEAD", "OPTIONS")

TopicFeedKind = TypeVar("TopicFeedKind", bound=TopicFeed[Any])

TOKEN_PATH = "auth/token"
bearer = OAuth2PasswordBearer(tokenUrl=TOKEN_PATH, auto_error=False)


def mounted_on(app: FastAPI) -> "Application":
    """Return the Amphibase that is mounted on an application.

    Raises:
        ConfigurationError: none is.
    """
    mounted: Application | None = getattr(app.state, "amphibase", None)
    if mounted is None:
        raise ConfigurationError("This application has no Amphibase: call db.mount(app)")
    return mounted


def amphibase_of(request: HTTPConnection) -> "Application":
    """Return the Amphibase that is mounted on the application of a request or WebSocket."""
    return mounted_on(request.app)


Mounted = Annotated["Application", Depends(amphibase_of)]


async def current_caller(
    request: HTTPConnection, token: Annotated[str | None, Depends(bearer)]
) -> Caller:
    """Return the user behind the bearer token, or an anonymous caller without one.

    Of a WebSocket it is who opened it: a ban or the end of the session does not close it, except
    where the route checks the token again, as streams of changes do every 15 seconds. A browser can
    set the headers neither of a WebSocket nor of an EventSource, so there the token may also be
    `?access_token=`, the name of RFC 6750, section 2.3.

    Raises:
        InvalidToken, SessionEnded, UserBanned: there is a token, and it does not hold.
    """
    if token is None and _is_opened_by_browser(request):
        token = request.query_params.get("access_token")
    if token is None:
        return ANONYMOUS
    return await amphibase_of(request).state.backend.accounts.authenticate(token)


def _is_opened_by_browser(request: HTTPConnection) -> bool:
    """Return whether a browser opens such a connection without headers of the page's own."""
    accepted = request.headers.get("accept", "")
    return isinstance(request, WebSocket) or "text/event-stream" in accepted


CurrentCaller = Annotated[Caller, Depends(current_caller)]
"""Who is asking; anonymous without a token."""


async def caller_of(request: HTTPConnection) -> Caller:
    """Return what `current_caller` returns, outside FastAPI's dependencies."""
    return await current_caller(request, await bearer(request))


async def signed_in_caller(caller: CurrentCaller) -> Caller:
    """Return the caller, who must be signed in. Raises Unauthenticated."""
    if caller.user_id is None:
        raise Unauthenticated
    return caller


SignedInCaller = Annotated[Caller, Depends(signed_in_caller)]
"""Who is asking; 401 without a token."""


async def current_user(request: HTTPConnection, caller: SignedInCaller) -> Any:
    """Return the profile of the signed-in user.

    Raises:
        Unauthenticated: there is no token, or its user was deleted.
        UserBanned: the user is banned.
    """
    assert caller.user_id is not None
    users = amphibase_of(request).state.users
    try:
        user = await users.get(caller.user_id)
    except NotFound as error:
        raise SessionEnded from error
    if not user.is_active:  # a ban that has run out is noticed here
        user = await users.refreshed(caller.user_id)
    if not user.is_active:
        raise UserBanned
    return user


CurrentUser = Annotated[User, Depends(current_user)]
"""The profile of the signed-in user; 401 when anonymous."""


async def admin_user(caller: SignedInCaller, user: CurrentUser) -> Any:
    """Return the profile of the signed-in administrator. Raises Unauthenticated, NotAdmin."""
    if not caller.is_admin:
        raise NotAdmin
    return user


AdminUser = Annotated[User, Depends(admin_user)]
"""The profile of the signed-in administrator; 401 when anonymous, 403 for others."""


async def current_session(
    request: HTTPConnection, caller: CurrentCaller
) -> AsyncIterator[AsyncSession]:
    """Open a session of the database, committed before the response is sent.

    If the handler or the commit fails, nothing is stored and the response is the error. The caller
    is in `session.info["caller"]`. Under GET and HEAD it is for reading; under other methods, on
    SQLite, it is the only writer from its first statement to its commit: others wait for it. In a
    WebSocket route it is one session for the whole connection, committed at its end.
    """
    backend = amphibase_of(request).state.backend
    writes = request.scope.get("method") not in READING_METHODS
    async with backend.session(caller, writes=writes) as opened:
        yield opened


# Of scope "function": what follows the yield, the commit, runs before the response is sent.
Session = Annotated[AsyncSession, Depends(current_session, scope="function")]
"""A SQLAlchemy session, committed before the response is sent."""


def repository_of(
    model: type[Model],
) -> Callable[[HTTPConnection, Caller], Awaitable[Repository[Model]]]:
    """Return the function behind `Amphibase.repository(model)`."""

    async def repository(request: HTTPConnection, caller: CurrentCaller) -> Repository[Model]:
        state = await _state_for(request, caller)
        return state.backend.repository(model, caller)

    return repository


def changes_of(
    model: type[Model],
) -> Callable[[HTTPConnection, Caller], Awaitable[ChangeFeed[Model]]]:
    """Return the function behind `Amphibase.changes(model)`."""

    async def changes(connection: HTTPConnection, caller: CurrentCaller) -> ChangeFeed[Model]:
        state = await _state_for(connection, caller)
        return ChangeFeed(model, connection, caller, state.backend, state.streams)

    return changes


def topic_feed_of(
    kind: type[TopicFeedKind], topic: Topic
) -> Callable[[HTTPConnection, Caller], Awaitable[TopicFeedKind]]:
    """Return the function behind `Amphibase.messages(topic)` and `Amphibase.presence(topic)`."""

    async def feed(connection: HTTPConnection, caller: CurrentCaller) -> TopicFeedKind:
        address = _address(topic, connection)
        state = await _state_for(connection, caller)
        return kind(address, connection, caller, state.backend, state.streams)

    return feed


def _address(topic: Topic, connection: HTTPConnection) -> TopicAddress:
    """Return the topic that has the parameters of a request's path.

    Raises:
        ConfigurationError: the path does not have them.
        InvalidRequest: they are too long.
    """
    path = connection.path_params
    missing = [name for name in topic.names if name not in path]
    if missing:
        raise ConfigurationError(
            f"{topic.template}: the path of the route has no parameter {missing[0]}"
        )
    try:
        return topic(**{name: path[name] for name in topic.names})
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


async def _state_for(connection: HTTPConnection, caller: Caller) -> "State":
    """Return the state of the application, which has the profile of the caller."""
    state = amphibase_of(connection).state
    if caller.user_id is not None:
        await state.users.ensure(caller.user_id)
    return state


def supabase_of(
    caller: Caller | None,
) -> Callable[[HTTPConnection, Caller], Awaitable[Any]]:
    """Return the function behind `Amphibase.supabase(caller)`."""

    async def supabase(request: HTTPConnection, current: CurrentCaller) -> Any:
        return amphibase_of(request).state.backend.supabase(caller or current)

    return supabase


def public_path(request: Request) -> str:
    """Return the path of a request as the client sees it: below the `root_path` of a proxy."""
    root: str = request.scope.get("root_path", "").rstrip("/")
    path: str = request.scope["path"]
    return path if path.startswith(f"{root}/") else f"{root}{path}"


def device_of(request: HTTPConnection) -> Device:
    """Return where the request comes from, for the list of sessions."""
    agent = request.headers.get("user-agent")
    return Device(
        agent[:MAX_USER_AGENT_CHARACTERS].replace("\x00", "") if agent else None,
        _ip(request.client.host) if request.client else None,
    )


def _ip(host: str) -> str | None:
    """The IP address that a host is, without the scope of a link-local one; None for a name."""
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return None


CurrentDevice = Annotated[Device, Depends(device_of)]
