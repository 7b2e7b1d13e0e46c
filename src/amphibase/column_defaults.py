"""What a row gets that nobody sends: the time, and an id."""

import os
import time
import uuid
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time now, aware, in UTC, with microseconds."""
    return datetime.now(UTC)


def uuid7() -> uuid.UUID:
    """Return a new UUID of version 7 (RFC 9562, section 5.7): ordered by its millisecond of
    birth."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 68) << 64
    return uuid.UUID(int=value | 2 << 62 | random & (1 << 62) - 1)
