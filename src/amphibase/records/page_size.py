"""How many rows a page may have, so that it does not take the memory."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Enum, LargeBinary, String
from sqlalchemy.types import ARRAY, JSON, TypeDecorator, TypeEngine

SHORT_CHARACTERS = 1000
"""A text of at most so many is never what makes a row large."""


def may_be_large(type_: TypeEngine[Any]) -> bool:
    """Return whether a value of a type may be what makes a row large."""
    plain = type_.impl_instance if isinstance(type_, TypeDecorator) else type_
    match plain:
        case Enum():
            return False
        case String() | LargeBinary():
            return plain.length is None or plain.length > SHORT_CHARACTERS
        case JSON() | ARRAY():
            return True
    return False


def count_within(sizes: Sequence[int], max_bytes: int) -> int:
    """Return how many of the first rows have so many bytes together: at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > max_bytes:
            return max(count, 1)
    return len(sizes)
