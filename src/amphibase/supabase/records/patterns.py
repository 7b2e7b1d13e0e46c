"""Patterns of LIKE, as PostgREST takes them.

It reads every `*` as `%`, also an escaped one, so a pattern with an asterisk of its own goes as a
regular expression
(https://docs.postgrest.org/en/v14/references/api/tables_views.html#operators).
"""

import re
from collections.abc import Iterator

from amphibase.errors import InvalidValue
from amphibase.records.filters.operators import OPERATORS, Operator

_ESCAPED_IN_LIKE = re.compile(r"[\\%_]")
_ESCAPED_IN_REGEX = re.compile(r"[^\w\s]", re.ASCII)

_AS_REGEX = {"like": "match", "ilike": "imatch"}


def like(
    name: str, pattern: str, escape: str | None, *, before: bool = False, after: bool = False
) -> tuple[Operator, str]:
    """Return the operator and the value of a comparison by LIKE.

    Args:
        name: `like` or `ilike`.
        escape: what stands before a character that means itself; a backslash where None.
        before, after: whether anything may come there.

    Raises:
        InvalidValue: the pattern ends in an escape.
    """
    parts = [*_parts(pattern, "\\" if escape is None else escape)]
    if before:
        parts.insert(0, (True, "%"))
    if after:
        parts.append((True, "%"))
    if (False, "*") not in parts:
        text = "".join(
            char if special else _ESCAPED_IN_LIKE.sub(r"\\\g<0>", char) for special, char in parts
        )
        return OPERATORS[name], text
    wildcards = {"%": ".*", "_": "."}
    regex = "".join(
        wildcards[char] if special else _ESCAPED_IN_REGEX.sub(r"\\\g<0>", char)
        for special, char in parts
    )
    return OPERATORS[_AS_REGEX[name]], f"^{regex}$"


def _parts(pattern: str, escape: str) -> Iterator[tuple[bool, str]]:
    """Yield the characters of a pattern, each with whether it is a wildcard."""
    characters = iter(pattern)
    for char in characters:
        if char == escape:
            following = next(characters, None)
            if following is None:
                raise InvalidValue("The pattern must not end with an escape of nothing")
            yield False, following
        else:
            yield char in "%_", char
