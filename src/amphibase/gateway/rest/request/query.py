"""What the query string of a request asks for, as data.

The grammar makes these; the planner reads them. Values that the client sends are not in them: each
place that needs one holds its position in the list of values that the grammar returns beside the
query. So two requests that differ in their values alone are equal here, and share one plan.
"""

from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

Position: TypeAlias = int
"""Where a value stands in the list of the request's values, counted from 0."""

Path: TypeAlias = tuple[str, ...]
"""Names (or aliases) of embedded relations from the outermost in; () is the target itself."""

Operator: TypeAlias = Literal[
    "eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch", "in", "is",
    "isdistinct", "cs", "cd", "ov", "sl", "sr", "nxr", "nxl", "adj",
    "fts", "plfts", "phfts", "wfts",
]  # fmt: skip
Quantifier: TypeAlias = Literal["any", "all"]
Truth: TypeAlias = Literal["null", "not_null", "true", "false", "unknown"]
Aggregate: TypeAlias = Literal["count", "sum", "avg", "min", "max"]
Join: TypeAlias = Literal["inner", "left"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a JSON path: `->key`, `->>key`, `->0` (an index is an int)."""

    key: str | int
    as_text: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A column, a computed field or, in filters and orders, an embedded relation; with a path."""

    name: str
    path: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """`field=not.operator(quantifier).value`.

    Attributes:
        value: of `in` it is a list of strings; of all others one string, which with a quantifier is
            an array as Postgres writes it (`{a,b}`). None for `is`, whose word is `truth`.
        language: of the full-text operators: the position of the configuration's name.
    """

    field: Field
    operator: Operator
    value: Position | None = None
    negated: bool = False
    quantifier: Quantifier | None = None
    truth: Truth | None = None
    language: Position | None = None


@dataclass(frozen=True, slots=True)
class Logic:
    """`and=(…)`, `or=(…)`, nested and negated."""

    operator: Literal["and", "or"]
    conditions: "tuple[Condition, ...]"
    negated: bool = False


Condition: TypeAlias = Filter | Logic


@dataclass(frozen=True, slots=True)
class Order:
    """One term of `order=`; `relation` orders by a column of a to-one embedded relation."""

    field: Field
    descending: bool | None = None
    nulls_first: bool | None = None
    relation: str | None = None


@dataclass(frozen=True, slots=True)
class SelectField:
    """`alias:column->path::cast.sum()::cast`; the name `*` is all columns.

    `count()` without a column has the empty name.
    """

    field: Field
    alias: str | None = None
    cast: str | None = None
    aggregate: Aggregate | None = None
    aggregate_cast: str | None = None


@dataclass(frozen=True, slots=True)
class SelectRelation:
    """`alias:relation!hint!inner(select)`, or `...relation(select)`."""

    name: str
    select: "tuple[SelectItem, ...]"
    alias: str | None = None
    hint: str | None = None
    join: Join | None = None
    spread: bool = False


SelectItem: TypeAlias = SelectField | SelectRelation


@dataclass(frozen=True, slots=True)
class Range:
    """Which of the rows; a limit is part of the query, an offset is one of its values."""

    offset: Position | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """All that a query string says.

    Attributes:
        select: empty tuple for `select=` (nothing); None where it is not given (all columns).
        conditions: each with the path of the relation it filters, in the order given.
        orders, ranges: by path, each path once.
        columns: of `columns=`, which a body may fill.
        on_conflict: of `on_conflict=`.
        arguments: what a call of a function by GET is given: names with positions, names repeat.
    """

    select: tuple[SelectItem, ...] | None = None
    conditions: tuple[tuple[Path, Condition], ...] = ()
    orders: tuple[tuple[Path, tuple[Order, ...]], ...] = ()
    ranges: tuple[tuple[Path, Range], ...] = ()
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
    arguments: tuple[tuple[str, Position], ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, each) for each in _PARTS)))

    @property
    def is_whole(self) -> bool:
        """Whether all columns are asked for, and nothing beside them."""
        return self.select is None or self.select == (SelectField(Field("*")),)

    def __hash__(self) -> int:  # it is looked up for every request
        return self._hash


_PARTS = [each.name for each in fields(Query) if each.compare]


Value: TypeAlias = str | int | list[str]
"""A value of a query: `in` has a list, offsets are ints."""
