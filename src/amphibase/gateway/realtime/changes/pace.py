"""Loops over what many subscribers want, which let others run in between."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

STEPS = 500


async def paced(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items; every `STEPS` of them, let the event loop do what else is due."""
    for step, item in enumerate(items, 1):
        yield item
        if step % STEPS == 0:
            await asyncio.sleep(0)
