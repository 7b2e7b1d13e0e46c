"""A change of a row, by whichever way the database sends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""When Postgres's time begins."""


class Operation(StrEnum):
    """What was done to a row."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class Unchanged(Enum):
    """Stands for a large value that was not changed and is not sent (TOAST)."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED

Value = str | None | Unchanged
"""A value as text."""

Row = dict[str, Value]


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """A table as it was when a change was made; the server sends it again when it has changed.

    Attributes:
        oid: of the table.
        columns: the names of its columns.
        identity: those of them that say which row was changed.
        is_full: whether old rows come whole (REPLICA IDENTITY FULL).
    """

    oid: int
    schema: str
    table: str
    columns: Sequence[str]
    identity: frozenset[str]
    is_full: bool


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that was inserted, updated or deleted by a transaction that is committed.

    Attributes:
        xid: of the transaction, in 32 bits.
        committed_at: when; from the outbox, when the row was written.
        new: None of a deletion.
        old: its identity, or all of it; None where that is the same as in `new`.
    """

    relation: Relation
    operation: Operation
    xid: int
    committed_at: datetime
    new: Row | None
    old: Row | None
