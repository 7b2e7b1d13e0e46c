"""A transaction of one caller."""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from amphibase.backend.caller import Caller
from amphibase.backend.records import Model, Repository

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Transaction(Protocol):
    """What one caller does, all or none of it.

    After an error that the database raised, nothing more can be done in it and it is rolled back,
    unless the error ended a `nested` block: `TransactionClosed`, on every backend. Errors that are
    found before a statement is sent, such as a value of another type, leave it as it was.
    """

    @property
    def caller(self) -> Caller: ...

    @property
    def session(self) -> "AsyncSession":
        """A SQLAlchemy session in the same transaction, for statements of one's own.

        What it has pending is sent before the repositories' statements and at the end. Its `commit`
        ends nothing.

        Raises:
            NotSupported: the backend is not an SQL database.
        """

    def repository(self, model: type[Model]) -> Repository[Model]:
        """Return the rows of a model, inside the transaction."""

    async def call(self, function: str, *, returns: Any = Any, **arguments: Any) -> Any:
        """Call a stored function; see `Backend.call`."""

    def nested(self) -> AbstractAsyncContextManager[None]:
        """Begin a savepoint: an error that leaves the block undoes the block only."""
