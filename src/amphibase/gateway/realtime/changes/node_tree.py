"""Expressions as the catalog keeps them (`pg_node_tree`).

A node is `{NAME :field value …}`, where a value is a node, a list in parentheses, or words
(`nodes/readfuncs.c`, `nodes/outfuncs.c` of PostgreSQL). Names of fields differ between versions, so
that a reader takes what it does not expect for unknown.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

NOTHING = "<>"
"""The word for a value that is not there."""

_TOKEN = re.compile(r"[{}()]|(?:\\.|[^\s{}()\\])+")


class InvalidNodeTree(Exception):
    """The text is no tree, or is ambiguous."""


class Node(NamedTuple):
    """A node of an expression."""

    name: str
    fields: "Mapping[str, Value]"

    def children(self) -> "Iterator[Node]":
        """Yield the nodes that are its fields, or in lists of them."""
        for value in self.fields.values():
            yield from nodes(value)


Value = Node | str | list["Value"]
"""A node, a word, or several of them."""


def nodes(value: Value) -> Iterator[Node]:
    """Yield the nodes that a value is or lists."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from nodes(each)


def parse(text: str) -> Node:
    """Return the node that a text is. Raises InvalidNodeTree."""
    tokens = iter(_TOKEN.findall(text))
    if next(tokens, None) != "{":
        raise InvalidNodeTree(text)
    node = _node(tokens)
    if next(tokens, None) is not None:
        raise InvalidNodeTree(text)
    return node


def _node(tokens: Iterator[str]) -> Node:
    """Read a node whose brace is read already."""
    name = next(tokens, "")
    fields: dict[str, Value] = {}
    field, values = "", list[Value]()
    for token in tokens:
        if token == "}" or token.startswith(":"):
            if field:
                # No value means that the value looks like a field: a name may begin with a colon.
                if not values or field in fields:
                    raise InvalidNodeTree(field)
                fields[field] = values[0] if len(values) == 1 else values
            elif values:
                raise InvalidNodeTree(name)
            if token == "}":
                return Node(name, fields)
            field, values = token[1:], []
        else:
            values.append(_value(token, tokens))
    raise InvalidNodeTree(name)


def _value(token: str, tokens: Iterator[str]) -> Value:
    if token == "{":
        return _node(tokens)
    if token == ")":
        raise InvalidNodeTree(token)
    if token != "(":
        return token
    values: list[Value] = []
    for each in tokens:
        if each == ")":
            return values
        values.append(_value(each, tokens))
    raise InvalidNodeTree(token)
