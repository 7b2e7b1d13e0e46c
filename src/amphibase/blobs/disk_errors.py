"""What goes wrong with a disk, in our own words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from amphibase.errors import StorageFull, Unavailable

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise StorageFull where there is no room, and Unavailable for other errors of a disk.

    Errors of a connection pass: they are the sender's.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull from error
        if isinstance(error, ConnectionError):
            raise
        raise Unavailable("The disk of the files cannot be used just now") from error
