"""The syntax tree of filters.

A tree holds no value: each place that needs one holds its position in a list of values beside the
tree. So two requests that differ in their values alone have equal trees, and share the compiled
statement.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from amphibase.records.filters.operators import Operator, Truth

Value: TypeAlias = str | int | list[str]
"""A value of a request: `in` has a list, an offset is an int, all else is text."""

Position: TypeAlias = int
"""The index of a value in the list of values."""

Path: TypeAlias = tuple[str, ...]
"""Names (or aliases) of embedded relations from the outermost in; () is the target itself."""

Connective: TypeAlias = Literal["and", "or"]
Quantifier: TypeAlias = Literal["any", "all"]


@dataclass(frozen=True, slots=True)
class JsonStep:
    """One step of a JSON path: `->key`, `->>key`, `->0` (an index is an int)."""

    key: str | int
    as_text: bool


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A column, a computed field or, in filters and orders, an embedded relation; with a path into
    its JSON."""

    name: str
    path: tuple[JsonStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """`field=not.operator(quantifier).value`.

    Attributes:
        value: of a list it is a list of strings; with a quantifier, an array as Postgres writes it
            (`{a,b}`); None where `truth` is set.
        truth: of `is`.
        language: of a text search: the name of its configuration.
    """

    field: FieldPath
    operator: Operator
    value: Position | None = None
    negated: bool = False
    quantifier: Quantifier | None = None
    truth: Truth | None = None
    language: Position | None = None


@dataclass(frozen=True, slots=True)
class Logic:
    """`and=(…)`, `or=(…)`, nested and negated."""

    operator: Connective
    conditions: "tuple[Condition, ...]"
    negated: bool = False


Condition: TypeAlias = Filter | Logic
