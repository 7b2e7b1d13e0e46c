"""Reads JSON that a database holds: a number that Python cannot hold is an error, and never another
value."""

import json
import re
from math import isinf
from typing import Any, NoReturn

_MAY_OVERFLOW = re.compile(r"[eE]\+?[0-9]{2}|[0-9]{299}")
"""In JSON without a match, no number is beyond a double."""


def read_json(document: str | bytes | bytearray) -> Any:
    """Read JSON, whose numbers have no limit in a database.

    Raises:
        ValueError: a number is beyond a double; or the document is not JSON.
    """
    text = document if isinstance(document, str) else bytes(document).decode()
    if _MAY_OVERFLOW.search(text):
        return json.loads(text, parse_float=_finite, parse_constant=_reject)
    return _DECODER.decode(text)


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError("A number in JSON is too large")
    return value


def _reject(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_reject)
