"""Rows as texts, as Postgres writes values of composite types.

PostgreSQL documentation, "Composite Type Input and Output Syntax".
"""

import re

_FIELD = re.compile(r'"((?:[^"]+|"")*+)"|([^,]*)')  # possessive: it remembers no way back


def read_row(text: str) -> list[str | None]:
    """Return the texts of a row's values; None of those that are null."""
    values: list[str | None] = []
    place = 1  # after the parenthesis
    while True:
        field = _FIELD.match(text, place, len(text) - 1)
        assert field is not None  # it may be empty
        quoted, plain = field.groups()
        if quoted is None:
            values.append(plain or None)
        else:
            values.append(quoted.replace('""', '"').replace("\\\\", "\\"))
        place = field.end() + 1
        if place >= len(text):
            return values
