"""Arrays as parameters of statements, in the binary format.

psycopg writes arrays as text, and escapes each value: for the claims of a thousand callers that
takes longer than to ask the database about them.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any

from psycopg import AsyncConnection, pq
from psycopg.adapt import Dumper
from psycopg.postgres import types

_HEAD = Struct("!iiIii")
_LENGTH = Struct("!i")
_INTEGER = Struct("!ii")
_NULL = _LENGTH.pack(-1)


class TextArray:
    """Texts, for a parameter of the type `text[]`."""

    def __init__(self, texts: Sequence[str | None]) -> None:
        self.texts = texts


class IntegerArray:
    """Integers of 32 bits, for a parameter of the type `int[]`."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = numbers


class TextArrayDumper(Dumper):
    """Writes a `TextArray`."""

    format = pq.Format.BINARY
    oid = types["text"].array_oid

    def dump(self, obj: TextArray) -> bytes:
        return _array(types["text"].oid, len(obj.texts), map(_text, obj.texts))


class IntegerArrayDumper(Dumper):
    """Writes an `IntegerArray`."""

    format = pq.Format.BINARY
    oid = types["int4"].array_oid

    def dump(self, obj: IntegerArray) -> bytes:
        values = (_INTEGER.pack(_LENGTH.size, number) for number in obj.numbers)
        return _array(types["int4"].oid, len(obj.numbers), values)


def register(connection: AsyncConnection[Any]) -> None:
    """Let a connection take such arrays."""
    connection.adapters.register_dumper(TextArray, TextArrayDumper)
    connection.adapters.register_dumper(IntegerArray, IntegerArrayDumper)


def _array(element: int, count: int, values: Iterable[bytes]) -> bytes:
    """Return an array of one dimension (`array_recv`)."""
    return _HEAD.pack(1, 1, element, count, 1) + b"".join(values)


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded
