"""Arrays in Postgres' text form, and as lists.

https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

import re
from collections.abc import Callable
from typing import Any

Items = list[Any]
"""Texts, None, and lists of these."""

TOKEN = re.compile(r'[{},]|"(?:[^"\\]|\\.)*"|(?:[^{},"\\]|\\.)+', re.DOTALL)
PLAIN = re.compile(r'[^{},"\\\s]+', re.ASCII)
"""What needs no quotes: blanks are those of ASCII alone (`array_isspace` of Postgres)."""


def parse_array(text: str) -> Items:
    """Return the elements of an array, in lists of lists where it has several dimensions.

    Raises:
        ValueError: it is no array, or its indexes do not begin at 1.
    """
    if not text.startswith("{"):
        raise ValueError("an array whose indexes do not begin at 1")
    stack: list[Items] = [[]]
    for token in TOKEN.findall(text):
        if token == "{":
            stack.append([])
        elif token == "}":
            finished = stack.pop()
            stack[-1].append(finished)
        elif token != ",":
            stack[-1].append(_element(token))
    (root,) = stack
    (items,) = root
    return list(items)


def write_array(items: Items, element: Callable[[Any], str | None]) -> str:
    """Write an array as Postgres does.

    Args:
        element: writes an element that is not a list; None for NULL.
    """
    written = [
        write_array(item, element) if isinstance(item, list) else _quoted(element(item))
        for item in items
    ]
    return "{" + ",".join(written) + "}"


def map_array(items: Items, change: Callable[[str], Any]) -> Items:
    """Return the same lists with each text changed."""
    return [
        map_array(item, change)
        if isinstance(item, list)
        else None
        if item is None
        else change(item)
        for item in items
    ]


def _element(token: str) -> str | None:
    if token.startswith('"'):
        return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)
    return None if token.upper() == "NULL" else re.sub(r"\\(.)", r"\1", token, flags=re.DOTALL)


def _quoted(text: str | None) -> str:
    if text is None:
        return "NULL"
    if PLAIN.fullmatch(text) and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
