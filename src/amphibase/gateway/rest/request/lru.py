"""Caches what short texts are parsed to; clients could fill the memory with long ones."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar, TypeVarTuple

MAX_CACHED_CHARACTERS = 1000
"""How many characters a text may have that is cached."""

Parsed = TypeVar("Parsed")
More = TypeVarTuple("More")


def cached(size: int) -> Callable[[Callable[[str, *More], Parsed]], Callable[[str, *More], Parsed]]:
    """Cache what the last texts were parsed to.

    Args:
        size: how many texts.
    """

    def decorate(read: Callable[[str, *More], Parsed]) -> Callable[[str, *More], Parsed]:
        cached_read = lru_cache(size)(read)

        @wraps(read)
        def cached_or_read(text: str, *more: *More) -> Parsed:
            if len(text) > MAX_CACHED_CHARACTERS:
                return read(text, *more)
            return cached_read(text, *more)

        return cached_or_read

    return decorate
