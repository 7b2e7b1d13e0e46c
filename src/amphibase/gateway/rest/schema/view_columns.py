"""Finds the table columns that the columns of a view show.

Postgres keeps a view as a tree of nodes (`pg_rewrite.ev_action`), in which each column of the
result names the relation and the column that it comes from unchanged, or zeros.
"""

import re

_TOKEN = re.compile(
    r"\\.|[{}]|:resno (?P<resno>\d+)|:resorigtbl (?P<table>\d+)|:resorigcol (?P<column>\d+)"
)

_RESULT_DEPTH = 2
"""How deep the columns of the result are: in their own braces, in those of the query."""


def origins(definition: str) -> dict[int, tuple[int, int]]:
    """Return, by column number, the OID of the relation it comes from, and the column's number
    there."""
    found: dict[int, tuple[int, int]] = {}
    depth = number = table = 0
    for token in _TOKEN.finditer(definition):
        text = token[0]
        if text == "{":
            depth += 1
        elif text == "}":
            depth -= 1
        elif depth != _RESULT_DEPTH:
            continue
        elif token["resno"]:
            number = int(token["resno"])
        elif token["table"]:
            table = int(token["table"])
        elif token["column"] and table:
            found[number] = (table, int(token["column"]))
    return found
