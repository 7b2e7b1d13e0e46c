"""The changes of a model's rows, as they are committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

Row_co = TypeVar("Row_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Added(Generic[Row_co]):
    """A row that the caller did not see before: a new one, or one that came into sight.

    Attributes:
        row: as it is now.
        cursor: where to go on after this event.
    """

    row: Row_co
    cursor: str


@dataclass(frozen=True, slots=True)
class Changed(Generic[Row_co]):
    """A row that was changed.

    Attributes:
        row: as it is now: of several changes in a row, the last may be all that comes.
        cursor: where to go on after this event.
    """

    row: Row_co
    cursor: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A row that was deleted, or that the caller does not see any more.

    Attributes:
        key: its primary key, as `Repository.get` takes it.
        cursor: where to go on after this event.
    """

    key: Any
    cursor: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Changes may have been missed: read the rows again, and go on from here.

    Attributes:
        cursor: where to go on after this event.
    """

    cursor: str


ChangeEvent: TypeAlias = Added[Row_co] | Changed[Row_co] | Removed | Lost
"""One event of a stream of changes."""


class Changes(Protocol[Row_co]):
    """The changes of a model's rows for one caller, as `Backend.changes` opens them.

    Each comes at least once, in the order of the commits, and is judged when it is delivered: by
    the model's access and the filters, and by the row as it is then. Streams whose callers see the
    same may share a row, so it is not for changing.
    """

    @property
    def cursor(self) -> str:
        """Where the stream is: `after` of another one that goes on from here."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> ChangeEvent[Row_co]:
        """Return the next event, however long it takes.

        While the database cannot be reached it waits, and then misses nothing.
        """

    async def batch(self, wait: float) -> Sequence[ChangeEvent[Row_co]]:
        """Return the next events, those that come together.

        Args:
            wait: seconds after which it returns without any.
        """
