"""The messages of the output plugin pgoutput, protocol version 1, with values as text.

PostgreSQL documentation, "Logical Replication Message Formats".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from struct import Struct

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

_BEGIN = Struct("!QqI")
_RELATION = Struct("!I")
_COUNT = Struct("!H")
_COLUMN = Struct("!Ii")
_LENGTH = Struct("!I")


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
        committed_at: when.
        new: None of a deletion.
        old: its identity, or all of it; None where that is the same as in `new`.
    """

    relation: Relation
    operation: Operation
    xid: int
    committed_at: datetime
    new: Row | None
    old: Row | None


class Decoder:
    """Decodes the messages of one stream, which refer to those before them."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._xid = 0
        self._committed_at = EPOCH

    def decode(self, message: bytes) -> RowChange | None:
        """Return the change that a message is; None of any other message."""
        match message[:1]:
            case b"B":
                _, microseconds, self._xid = _BEGIN.unpack_from(message, 1)
                self._committed_at = EPOCH + timedelta(microseconds=microseconds)
            case b"R":
                relation = _read_relation(message)
                self._relations[relation.oid] = relation
            case b"I" | b"U" | b"D":
                return self._change(message)
        return None

    def _change(self, message: bytes) -> RowChange:
        relation = self._relations[_RELATION.unpack_from(message, 1)[0]]
        rows = dict(_read_rows(message, 5, relation))
        old = rows.get(b"K", rows.get(b"O"))
        if b"K" in rows and old is not None:  # what is no part of the key is sent as null
            old = {name: old[name] for name in relation.columns if name in relation.identity}
        operation = {b"I": Operation.INSERT, b"U": Operation.UPDATE, b"D": Operation.DELETE}
        return RowChange(
            relation,
            operation[message[:1]],
            self._xid,
            self._committed_at,
            rows.get(b"N"),
            old,
        )


def _read_relation(message: bytes) -> Relation:
    (oid,) = _RELATION.unpack_from(message, 1)
    schema_end = message.index(b"\0", 5)
    table_end = message.index(b"\0", schema_end + 1)
    schema = message[5:schema_end].decode() or "pg_catalog"
    is_full = message[table_end + 1 : table_end + 2] == b"f"
    (count,) = _COUNT.unpack_from(message, table_end + 2)
    place = table_end + 4
    columns, identity = [], set()
    for _ in range(count):
        end = message.index(b"\0", place + 1)
        name = message[place + 1 : end].decode()
        columns.append(name)
        if message[place] & 1:
            identity.add(name)
        place = end + 1 + _COLUMN.size
    table = message[schema_end + 1 : table_end].decode()
    return Relation(oid, schema, table, tuple(columns), frozenset(identity), is_full)


def _read_rows(message: bytes, place: int, relation: Relation) -> Iterator[tuple[bytes, Row]]:
    """Yield the rows of a change by their kind: K and O are old, N is new."""
    while place < len(message):
        kind = message[place : place + 1]
        place += 1 + _COUNT.size
        row: Row = {}
        for name in relation.columns:
            value: Value = None
            match message[place : place + 1]:
                case b"u":
                    value = UNCHANGED
                case b"t":
                    (length,) = _LENGTH.unpack_from(message, place + 1)
                    place += _LENGTH.size
                    value = message[place + 1 : place + 1 + length].decode()
                    place += length
            place += 1
            row[name] = value
        yield kind, row
