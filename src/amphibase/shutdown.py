"""Tells responses that would go on for as long as the client listens that the server is to stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_callbacks: set[Callable[[], object]] = set()


@contextmanager
def at_shutdown(callback: Callable[[], object]) -> Iterator[None]:
    """Call a function when a server of this process begins to stop, if that is within the block."""
    _callbacks.add(callback)
    try:
        yield
    finally:
        _callbacks.discard(callback)


def announce_shutdown() -> None:
    """Call the functions of all blocks that are under way."""
    for callback in [*_callbacks]:
        callback()
