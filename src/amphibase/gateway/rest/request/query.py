"""The parsed query string of a request, as data.

The parser makes these; the planner reads them. As in the tree of filters, each place that needs a
value of the client holds its position in the list of values that is returned beside the query. So
two requests that differ in their values alone are equal here, and share one plan.
"""

from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

from amphibase.records.filters.tree import Condition, FieldPath, Path, Position

Aggregate: TypeAlias = Literal["count", "sum", "avg", "min", "max"]
Join: TypeAlias = Literal["inner", "left"]


@dataclass(frozen=True, slots=True)
class OrderingTerm:
    """One term of `order=`; `relation` orders by a column of a to-one embedded relation."""

    field: FieldPath
    descending: bool | None = None
    nulls_first: bool | None = None
    relation: str | None = None


@dataclass(frozen=True, slots=True)
class SelectField:
    """`alias:column->path::cast.sum()::cast`; the name `*` is all columns.

    `count()` without a column has the empty name.
    """

    field: FieldPath
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
class QueryParams:
    """All that a query string says.

    Attributes:
        select: None where it is missing or empty (all columns).
        conditions: each with the path of the relation it filters, in the order of the query string.
        orders, ranges: by path, each path once.
        columns: of `columns=`, which a body may fill.
        on_conflict: of `on_conflict=`.
        arguments: the arguments of a call by GET: names with positions; names may repeat.
    """

    select: tuple[SelectItem, ...] | None = None
    conditions: tuple[tuple[Path, Condition], ...] = ()
    orders: tuple[tuple[Path, tuple[OrderingTerm, ...]], ...] = ()
    ranges: tuple[tuple[Path, Range], ...] = ()
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
    arguments: tuple[tuple[str, Position], ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, each) for each in _PARTS)))

    @property
    def is_whole(self) -> bool:
        """Whether all columns are selected, and nothing beside them."""
        return self.select is None or self.select == (SelectField(FieldPath("*")),)

    def __hash__(self) -> int:  # it is looked up for every request
        return self._hash


_PARTS = [each.name for each in fields(QueryParams) if each.compare]
