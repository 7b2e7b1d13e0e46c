"""The contract: what every home offers. Small Protocols and the values that cross them; no code
that talks to anything."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from amphibase.backend.accounts import (
    FOREVER,
    UNKNOWN_DEVICE,
    Account,
    Accounts,
    Device,
    Session,
    SignedIn,
    SignOutScope,
    Tokens,
)
from amphibase.backend.caller import ANONYMOUS, NO_CLAIMS, SERVICE, Caller, Claims, Role
from amphibase.backend.files import Bucket, File, Files, OpenFile, SignedUrl
from amphibase.backend.records import (
    MAX_LIMIT,
    Item,
    JsonRows,
    Load,
    Model,
    Order,
    Page,
    Repository,
    Where,
)

__all__ = [
    "ANONYMOUS",
    "FOREVER",
    "MAX_LIMIT",
    "NO_CLAIMS",
    "SERVICE",
    "UNKNOWN_DEVICE",
    "Account",
    "Accounts",
    "Backend",
    "Bucket",
    "Caller",
    "Capabilities",
    "Claims",
    "Device",
    "File",
    "Files",
    "Isolation",
    "Item",
    "JsonRows",
    "Load",
    "Model",
    "OpenFile",
    "Order",
    "Page",
    "Repository",
    "Result",
    "Role",
    "Session",
    "SignOutScope",
    "SignedIn",
    "SignedUrl",
    "Tokens",
    "Transaction",
    "Where",
]

Isolation = Literal["read committed", "repeatable read", "serializable"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; what it cannot raises `NotSupported` before anything is sent."""

    instant_revocation: bool
    """A session that was ended, or a ban, holds for tokens that are out already."""
    transactions: bool
    row_level_security: bool
    stored_procedures: bool


class Transaction(Protocol):
    """What one caller does, all or none of it. After an error that the database raised, nothing
    more can be done in it, except around a `nested` block that the error ended."""

    @property
    def caller(self) -> Caller: ...

    def repository(self, model: type[Model]) -> Repository[Model]:
        """The rows of a model, inside the transaction."""

    async def call(self, function: str, *, returns: Any = Any, **arguments: Any) -> Any:
        """Call a stored function; see `Backend.call`."""

    def nested(self) -> AbstractAsyncContextManager[None]:
        """A part that can fail alone: an error that leaves the block undoes the block only."""


class Backend(Protocol):
    """One home, or a combination of them."""

    @property
    def accounts(self) -> Accounts: ...

    @property
    def files(self) -> Files: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def repository(self, model: type[Model], caller: Caller) -> Repository[Model]:
        """The rows of a model as that caller may see and change them."""

    def transaction(
        self, caller: Caller, *, isolation: Isolation | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """What happens in the block is committed at its end, or not at all.

        Args:
            isolation: the database's own where not given.

        Raises:
            NotSupported: the home has no transactions.
        """

    async def in_transaction(
        self,
        caller: Caller,
        work: Callable[[Transaction], Awaitable[Result]],
        *,
        isolation: Isolation = "serializable",
        attempts: int = 3,
    ) -> Result:
        """Run the work in a transaction, and again in a new one where others were in the way.

        Args:
            work: may run several times, so it does nothing that a rollback does not undo.

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
            NotSupported: the home has no stored functions.
            NotFound: there is no function with that name and parameters.
            InvalidValue: an argument or the result is of another type.
            InvalidRequest: the function itself raised an exception; has its message.
        """

    async def check(self) -> None:
        """Reach everything that an answer needs. Raises Unavailable."""

    async def close(self) -> None:
        """Let go of every connection."""
