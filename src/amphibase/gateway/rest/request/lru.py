"""Remembers what texts were read as, but for long ones: strangers write them, and could fill the
memory."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar, TypeVarTuple

LONGEST_KEPT = 1000
"""How many characters a text may have that is kept."""

Made = TypeVar("Made")
More = TypeVarTuple("More")


def kept(most: int) -> Callable[[Callable[[str, *More], Made]], Callable[[str, *More], Made]]:
    """Keep what the last texts were read as.

    Args:
        most: how many texts.
    """

    def decorate(read: Callable[[str, *More], Made]) -> Callable[[str, *More], Made]:
        remembering = lru_cache(most)(read)

        @wraps(read)
        def reading(text: str, *more: *More) -> Made:
            if len(text) > LONGEST_KEPT:
                return read(text, *more)
            return remembering(text, *more)

        return reading

    return decorate
