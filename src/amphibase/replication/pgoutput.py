"""The messages of the output plugin pgoutput, protocol version 1, with values as text.

PostgreSQL documentation, "Logical Replication Message Formats".
"""

from collections.abc import Iterator
from datetime import timedelta
from struct import Struct

from amphibase.replication.change import (
    EPOCH,
    UNCHANGED,
    Operation,
    Relation,
    Row,
    RowChange,
    Value,
)

_BEGIN = Struct("!QqI")
_RELATION = Struct("!I")
_COUNT = Struct("!H")
_COLUMN = Struct("!Ii")
_LENGTH = Struct("!I")


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
