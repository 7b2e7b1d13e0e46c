"""Finds the role in a token's claims, by a path such as `.app_metadata.roles[0]`.

The paths are those PostgREST documents for `jwt-role-claim-key`
(https://docs.postgrest.org/en/v14/references/auth.html), and what version 16 takes of JSONPath
beside them (RFC 9535): the root `$`, names in brackets, indexes from the end, and
`[?@ == "value"]`.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Step: TypeAlias = Callable[[Any], Any]
"""From a value to one in it; raises LookupError or TypeError where there is none."""

_STEP = re.compile(
    r"""
    \.(?P<word>[\w$@]+)
    | \."(?P<quoted>[^"]+)"
    | \[(?P<index>-?\d+)\]
    | \[(?P<quote>["'])(?P<bracketed>[^"']+)(?P=quote)\]
    | \[\?\(@\s*(?P<test>==\^|\^==|\*==|==|!=)\s*"(?P<operand>[^"]*)"\)\]
    | \[\?\s*@\s*(?P<compares>==|!=)\s*(?P<around>["'])(?P<compared>[^"']*)(?P=around)\s*\]
    | \[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\]
    """,
    re.VERBOSE,
)
_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "==": str.__eq__, "!=": str.__ne__, "^==": str.startswith, "==^": str.endswith,
    "*==": str.__contains__,
}  # fmt: skip


class RolePath:
    """A path into claims.

    Raises:
        ValueError: the text is no path.
    """

    def __init__(self, text: str) -> None:
        self._steps: list[Step] = []
        at = 1 if text.startswith(("$.", "$[")) else 0
        while at < len(text) or not self._steps:
            match = _STEP.match(text, at)
            if match is None:
                raise ValueError("must be a path such as .role or .app_metadata.roles[0]")
            self._steps.append(_step(match))
            at = match.end()

    def find(self, claims: Mapping[str, Any]) -> str | None:
        """Find the role, None if the claims name none."""
        value: Any = claims
        for step in self._steps:
            try:
                value = step(value)
            except (LookupError, TypeError):
                return None
        return (value if isinstance(value, str) else json.dumps(value)) or None


def _step(match: re.Match[str]) -> Step:
    if match["index"]:
        return lambda value: _typed(value, list)[int(match["index"])]
    if match["test"]:
        holds, operand = _TESTS[match["test"]], match["operand"]
        return lambda value: _first(_typed(value, list), holds, operand)
    if match["compares"]:
        compares, compared = _TESTS[match["compares"]], match["compared"]
        return lambda value: _first(_typed(value, list), compares, compared)
    if key := match["word"] or match["quoted"] or match["bracketed"]:
        return lambda value: _typed(value, Mapping)[key]
    start, stop = (None if each is None else int(each) for each in match.group("start", "stop"))
    return lambda value: _typed(value, str)[start:stop]


def _typed(value: Any, type: Any) -> Any:
    if not isinstance(value, type):
        raise TypeError
    return value


def _first(values: list[Any], holds: Callable[[str, str], bool], operand: str) -> str:
    for each in values:
        if isinstance(each, str) and holds(each, operand):
            return each
    raise LookupError
