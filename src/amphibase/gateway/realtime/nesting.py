"""JSON from clients, of a bounded depth.

`orjson` reads 1,024 levels and writes 254. What one client sends is written for others within more
levels, so that a deeper one would be an error of theirs.
"""

from typing import Any

import orjson

MAX_LEVELS = 100


class TooDeep(ValueError):
    """JSON of more than `MAX_LEVELS` levels of arrays and objects."""


def read_json(text: str | bytes) -> Any:
    """Read JSON that a client has sent.

    Returns:
        A value that `orjson` can write, also as a part of others.

    Raises:
        TooDeep: it has more levels than `MAX_LEVELS`.
        ValueError: it is not JSON.
    """
    value = orjson.loads(text)
    # Most have fewer brackets than that, which is counted faster than levels.
    marks: Any = "[{" if isinstance(text, str) else (b"[", b"{")
    if sum(map(text.count, marks)) > MAX_LEVELS and _is_deep(value):
        raise TooDeep(f"it has more than {MAX_LEVELS} levels")
    return value


def _is_deep(value: Any) -> bool:
    level: list[Any] = [[value]]
    for _ in range(MAX_LEVELS + 1):
        level = [
            part
            for each in level
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True
