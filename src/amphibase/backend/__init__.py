"""The contract: what every backend offers. Small Protocols and the values that cross them; no code
that talks to anything."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from amphibase.backend.accounts import FOREVER, Accounts, SignOutScope
from amphibase.backend.caller import ANONYMOUS, NO_CLAIMS, SERVICE, Caller, Claims, Role
from amphibase.backend.capabilities import Capabilities, Capability
from amphibase.backend.changes import Added, Changed, ChangeEvent, Changes, Lost, Removed
from amphibase.backend.files import (
    GRACE,
    Bucket,
    File,
    Files,
    Finding,
    OpenFile,
    SignedUrl,
    Sweep,
)
from amphibase.backend.hooks import AccountHooks, SignUpAttempt
from amphibase.backend.identities import BrowserRedirect, Identities, OAuthRequest, UserIdentity
from amphibase.backend.messages import (
    Message,
    Messages,
    RepositorySource,
    Topic,
    TopicAddress,
    TopicRequest,
    TopicRule,
)
from amphibase.backend.presence import (
    Presence,
    PresenceEvent,
    PresenceJoin,
    PresenceLeave,
    Presences,
    PresenceSync,
    PresenceUpdate,
)
from amphibase.backend.records import (
    MAX_LIMIT,
    Item,
    JsonRows,
    Load,
    Model,
    Order,
    Page,
    Repository,
    RowSource,
    Where,
)
from amphibase.backend.sessions import (
    UNKNOWN_DEVICE,
    Account,
    Device,
    SignedIn,
    Tokens,
    UserSession,
)
from amphibase.backend.transaction import Transaction

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from supabase import AsyncClient

__all__ = [
    "ANONYMOUS",
    "ATTEMPTS",
    "FOREVER",
    "GRACE",
    "MAX_LIMIT",
    "NO_CLAIMS",
    "SERVICE",
    "UNKNOWN_DEVICE",
    "Account",
    "AccountHooks",
    "Accounts",
    "Added",
    "Backend",
    "BrowserRedirect",
    "Bucket",
    "Caller",
    "Capabilities",
    "Capability",
    "ChangeEvent",
    "Changed",
    "Changes",
    "Claims",
    "Device",
    "File",
    "Files",
    "Finding",
    "Identities",
    "Isolation",
    "Item",
    "JsonRows",
    "Load",
    "Lost",
    "Message",
    "Messages",
    "Model",
    "OAuthRequest",
    "OpenFile",
    "Order",
    "Page",
    "Presence",
    "PresenceEvent",
    "PresenceJoin",
    "PresenceLeave",
    "PresenceSync",
    "PresenceUpdate",
    "Presences",
    "Removed",
    "Repository",
    "RepositorySource",
    "Result",
    "Role",
    "RowSource",
    "SignOutScope",
    "SignUpAttempt",
    "SignedIn",
    "SignedUrl",
    "Sweep",
    "Tokens",
    "Topic",
    "TopicAddress",
    "TopicRequest",
    "TopicRule",
    "Transaction",
    "UserIdentity",
    "UserSession",
    "Where",
]

Isolation = Literal["read committed", "repeatable read", "serializable"]

Result = TypeVar("Result")

ATTEMPTS = 12
"""How often `in_transaction` runs its work at most, by default."""


class Backend(Protocol):
    """One backend, or a combination of several."""

    @property
    def accounts(self) -> Accounts: ...

    @property
    def files(self) -> Files: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def repository(self, model: type[Model], caller: Caller) -> Repository[Model]:
        """Return the rows of a model as that caller may see and change them."""

    def transaction(
        self, caller: Caller, *, isolation: Isolation | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction: what happens in the block is committed at its end, or not at all.

        Args:
            isolation: the database's own by default.

        Raises:
            NotSupported: the backend has no transactions.
        """

    async def in_transaction(
        self,
        caller: Caller,
        work: Callable[[Transaction], Awaitable[Result]],
        *,
        isolation: Isolation = "serializable",
        attempts: int = ATTEMPTS,
    ) -> Result:
        """Run the work in a transaction, and again in a new one where others were in the way.

        Before each further attempt it waits for a random time, up to twice as long as before and
        at most two seconds: many that want the same rows all come to their turn.

        Args:
            work: may run several times, so it does nothing that a rollback does not undo.
            attempts: how often it may run.

        Raises:
            Unavailable: others were in the way each time.
        """

    async def call(
        self, function: str, caller: Caller, *, returns: Any = Any, **arguments: Any
    ) -> Any:
        """Call a stored function of the database, and commit.

        Args:
            function: its name in the default schema.
            returns: the type of the result, checked by pydantic: `int`, `list[Note]`, a model.
            arguments: by the names of the function's parameters.

        Raises:
            NotSupported: the backend has no stored functions.
            NotFound: no function has that name and parameters.
            InvalidValue: an argument or the result is of another type.
            InvalidRequest: the function itself raised an exception; has its message.
        """

    def session(
        self, caller: Caller, *, writes: bool = True
    ) -> "AbstractAsyncContextManager[AsyncSession]":
        """Open a SQLAlchemy session, committed at the end of the block or not at all.

        The caller is in `session.info["caller"]`. With row level security the database knows who
        it is; else what the session does is not limited to their rows.

        Args:
            writes: False for a session that only reads, which on SQLite blocks no other.

        Raises:
            NotSupported: the backend is not an SQL database.
        """

    def supabase(self, caller: Caller) -> "AsyncClient":
        """Return the official Supabase client, for calls of one's own as that caller.

        It is made for this caller and shares nothing but connections with others.

        Raises:
            NotSupported: no part of the data is in a Supabase project.
        """

    def changes(
        self, model: type[Model], caller: Caller, *where: Where, after: str | None = None
    ) -> AbstractAsyncContextManager[Changes[Model]]:
        """Open the stream of the changes of a model's rows, of everything that commits from now on.

            async with backend.changes(Note, caller, Note.stars > 3) as changes:
                async for change in changes: ...

        The model keeps a log of its changes: it says `__changes__ = True`.

        Args:
            where: filters. A row that does not match any more is `Removed`.
            after: the cursor of an earlier event, after which the stream goes on. Where the log
                does not reach back so far, the first event is `Lost`.

        Raises:
            NotSupported: the backend has no such log.
            InvalidRequest: the model keeps none, or a filter is not an expression.
            Unavailable: the database cannot be reached.
        """

    async def publish(self, topic: TopicAddress, payload: Any, caller: Caller) -> None:
        """Send a message to everyone who is subscribed to a topic now, in every process.

        It is delivered at most once and stored nowhere: who is not subscribed does not get it.

        Args:
            topic: such as `ROOMS(id=room.id)`; its `write` rule decides.
            payload: a value that pydantic writes as JSON, of at most 7,000 bytes.

        Raises:
            Forbidden: the topic's rule does not admit the caller.
            InvalidValue: the payload cannot be written as JSON.
            PayloadTooLarge: it has too many bytes.
            NotSupported: the backend has no messages.
            Unavailable: the database cannot be reached.
        """

    def subscribe(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[Messages]:
        """Open the stream of what is published on a topic from now on.

            async with backend.subscribe(ROOMS(id=room.id), caller) as messages:
                async for message in messages: ...

        Args:
            topic: such as `ROOMS(id=room.id)`; its `read` rule decides.

        Raises:
            Forbidden: the topic's rule does not admit the caller.
            NotSupported: the backend has no messages.
            Unavailable: the database cannot be reached.
        """

    def presence(
        self, topic: TopicAddress, caller: Caller
    ) -> AbstractAsyncContextManager[Presences]:
        """Open the presence of a topic: who is there now, in every process, and who comes and goes.

            async with backend.presence(ROOMS(id=room.id), caller) as presences:
                await presences.track({"name": "Ann"})
                async for event in presences: ...

        At the end of the block the caller is absent. Where a process ends without saying so, those
        who were present by way of it are absent after 40 seconds at most.

        Args:
            topic: such as `ROOMS(id=room.id)`; its `read` rule decides who sees the presence, and
                its `write` rule who may be present.

        Raises:
            Forbidden: the topic's rule does not admit the caller.
            NotSupported: the backend has no messages.
            ConfigurationError: the tables of the presence are missing and may not be created.
            Unavailable: the database cannot be reached.
        """

    async def identify(
        self, access_token: str, rows: RowSource[Item]
    ) -> tuple[Caller, Item | None]:
        """Return the caller behind a token and their row, in as few round trips as possible.

        Args:
            rows: of this backend, with users' ids as their primary key, such as the profiles.

        Raises:
            InvalidToken, SessionEnded, UserBanned: as `Accounts.authenticate`.
        """

    def use_hooks(self, hooks: AccountHooks) -> None:
        """Call an application's hooks from now on.

        Raises:
            NotSupported: the backend cannot run the hooks of an application.
        """

    async def start(self) -> None:
        """Get ready to serve: in development, make the tables that are missing.

        Raises:
            ConfigurationError: in production, the database is behind; says what to run.
            Unavailable: the database cannot be reached.
        """

    async def check(self) -> None:
        """Reach everything that a response needs. Raises Unavailable."""

    async def close(self) -> None:
        """Finish what is under way and close every connection."""
