"""Memory that is free goes back to the system, where the C library is glibc; elsewhere nothing is
done (https://man7.org/linux/man-pages/man3/mallopt.3.html, malloc_trim.3).

glibc gives each thread an arena, and returns only what is free at the end of the first one: the 19
MiB of a password's hash would stay with the thread that hashed it.
"""

import ctypes
from functools import cache

_M_ARENA_MAX = -8


def use_one_arena() -> None:
    """Let all threads share the first arena, of which `trim` frees everything.

    To be called before there are threads. Python's lock leaves them little to wait for.
    """
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Return what is free to the system; takes a few milliseconds."""
    if libc := _glibc():
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # as on Windows
        return None
    return libc if hasattr(libc, "malloc_trim") else None
