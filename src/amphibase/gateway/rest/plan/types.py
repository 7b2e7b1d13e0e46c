"""What a request becomes once its names are resolved against the catalog, as data.

`Planner` makes these, `sql` writes them as SQL. A plan holds no value that a client sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from amphibase.gateway.rest.request.query import Aggregate, QueryParams
from amphibase.gateway.rest.schema.catalog import (
    Column,
    ComputedRelationship,
    MediaHandler,
    Name,
    Relationship,
    Routine,
    Table,
)
from amphibase.records.filters.tree import Filter, JsonStep, Position

Action: TypeAlias = Literal["read", "insert", "update", "delete", "put", "call"]
Content: TypeAlias = Literal["json", "csv", "text", "xml", "binary"]
Shape: TypeAlias = Literal["array", "object", "csv", "geojson", "scalar", "handler", "none"]
Count: TypeAlias = Literal["exact", "planned", "estimated"]
Returning: TypeAlias = Literal["minimal", "headers-only", "representation"]
Resolution: TypeAlias = Literal["merge", "ignore"]
ExplainOption: TypeAlias = Literal["analyze", "verbose", "settings", "buffers", "wal"]

SCALAR = "pgrst_scalar"
"""The column of a function's values, by PostgREST's name: in CSV, filters and orders."""


@dataclass(frozen=True, slots=True)
class Explain:
    """`application/vnd.pgrst.plan`: the execution plan instead of the rows."""

    format: Literal["text", "json"] = "text"
    options: tuple[ExplainOption, ...] = ()


class BodyFormat(NamedTuple):
    """What the response's body is.

    Attributes:
        shape: `scalar` is the value of a function as it is (text, or bytes of a bytea); `none` is
            no body, as for HEAD.
        handler: of the shape `handler`.
    """

    shape: Shape = "array"
    strip_nulls: bool = False
    handler: MediaHandler | None = None
    explain: Explain | None = None


ARRAY = BodyFormat()


class PlanKey(NamedTuple):
    """All of a request that its SQL depends on; its plan and SQL are cached by it.

    Attributes:
        target: a table, a view or a function, in an exposed schema.
        keys: of the body's objects (`Payload.columns`), sorted; empty without a body.
        content: of what the body is; None of a call whose arguments are the query's, as they are
            by GET and of a form. What else is a form, or CSV, has become JSON.
        missing_default: columns that the body lacks get their default, not NULL.
    """

    target: Name
    action: Action
    query: QueryParams
    media: BodyFormat = ARRAY
    keys: tuple[str, ...] = ()
    content: Content | None = None
    count: Count | None = None  # type: ignore[assignment]  # not the method of tuples
    returning: Returning = "minimal"
    resolution: Resolution | None = None
    missing_default: bool = False


@dataclass(frozen=True, slots=True)
class Operand:
    """A column, a computed field or something in one of them.

    Attributes:
        type: the column's type without domains; None where it is not known.
        function: computes the field from its row.
        path: into JSON.
        to_json: the function that represents a domain's value in JSON.
        from_text: the function that reads a domain's value from a filter's.
    """

    name: str
    type: str | None = None
    function: Name | None = None
    path: tuple[JsonStep, ...] = ()
    to_json: Name | None = None
    from_text: Name | None = None


@dataclass(frozen=True, slots=True)
class ResolvedFilter:
    """A filter whose field is resolved."""

    operand: Operand
    filter: Filter


@dataclass(frozen=True, slots=True)
class EmbedPresence:
    """Whether there is a related row: `relation=not.is.null`."""

    embed: "Embed"
    present: bool


@dataclass(frozen=True, slots=True)
class ResolvedLogic:
    """Conditions joined by a word."""

    operator: Literal["and", "or"]
    conditions: "tuple[ResolvedCondition, ...]"
    negated: bool


ResolvedCondition: TypeAlias = ResolvedFilter | EmbedPresence | ResolvedLogic


@dataclass(frozen=True, slots=True)
class Sort:
    """One term of an order; without an operand and an embed, how many rows a group has.

    Attributes:
        embed: orders by its hidden value number `hidden`.
        is_key: whether that value is also one of the keys that the embed spreads.
    """

    operand: Operand | None
    descending: bool | None
    nulls_first: bool | None
    embed: "Embed | None" = None
    hidden: int = 0
    is_key: bool = False


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A key of the rows' JSON. Without an operand it is `count()`."""

    key: str
    operand: Operand | None
    cast: str | None = None
    aggregate: Aggregate | None = None
    aggregate_cast: str | None = None


@dataclass(frozen=True, slots=True)
class Star:
    """All columns.

    Attributes:
        outputs: the columns, where they are known.
        is_plain: whether SQL's own star gives the same.
    """

    outputs: tuple[OutputColumn, ...] = ()
    is_plain: bool = True


@dataclass(slots=True, eq=False)
class ReadPlan:
    """A relation in the tree that is read.

    Attributes:
        alias: its name in the SQL, of our own making.
        table: what its rows are of; None where a function says nothing of its columns.
        source: where its rows come from: a table, or None for rows that the statement wrote or
            got from a function.
        label: what errors call it.
        limit: a number from the settings or the query.
        offset: where the query's values have it.
    """

    alias: str
    table: Table | None
    source: Name | None
    label: str
    select: list["OutputColumn | Star | Embed"] = field(default_factory=list)
    conditions: list[ResolvedCondition] = field(default_factory=list)
    sorts: list[Sort] = field(default_factory=list)
    limit: int | None = None
    offset: Position | None = None

    @property
    def embeds(self) -> list["Embed"]:
        return [item for item in self.select if isinstance(item, Embed)]

    @property
    def is_cut(self) -> bool:
        """Whether it has a limit or an offset."""
        return self.limit is not None or self.offset is not None

    @property
    def is_empty(self) -> bool:
        """Whether no key comes of it."""
        return all(isinstance(item, Embed) and item.node.is_empty for item in self.select)

    def labelled(self, message: str) -> str:
        """Return a message of Postgres with the labels in place of the aliases."""
        for embed in self.embeds:
            message = embed.node.labelled(message)
        return message.replace(f'"{self.alias}.', f'"{self.label}.')


@dataclass(slots=True, eq=False)
class Embed:
    """A relation inside another one's rows.

    Attributes:
        alias: of the join, in the SQL.
        name: the relation's in the request.
        key: the alias in the request, or the name: what filters and orders call it.
        inner: rows without it are left out.
        spread: its keys are the parent's; as arrays, of to-many relations.
        hidden: what the parent orders its rows by.
    """

    alias: str
    name: str
    key: str
    node: ReadPlan
    relationship: Relationship | ComputedRelationship
    inner: bool
    spread: bool
    hidden: list[Operand] = field(default_factory=list)

    @property
    def to_one(self) -> bool:
        return self.relationship.to_one


@dataclass(frozen=True, slots=True)
class MutatePlan:
    """What is written.

    Attributes:
        columns: taken from the body, in this order.
        from_json: of columns of domains: the function that reads the value from JSON.
        conflict: the columns of ON CONFLICT; empty for none.
        conditions: of the rows to change; of PUT, of the body's row.
        returned: the columns of the response; None for the whole row.
    """

    table: Table
    columns: tuple[Column, ...] = ()
    from_json: Mapping[str, Name] = field(default_factory=dict)
    conflict: tuple[str, ...] = ()
    conditions: tuple[ResolvedCondition, ...] = ()
    returned: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True)
class CallArgument:
    """An argument of a call.

    Attributes:
        name: "" for the only, unnamed one, which is the whole body.
        positions: of the query's values; empty where the body has it.
    """

    name: str
    type: str
    variadic: bool = False
    positions: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A function and what it is called with."""

    function: Routine
    arguments: tuple[CallArgument, ...]


@dataclass(frozen=True, slots=True)
class ActionPlan:
    """A request resolved against the catalog.

    What is read are rows of a table, of what is written or of a function.

    Attributes:
        max_rows: up to which `count=estimated` counts rows.
    """

    key: PlanKey
    read: ReadPlan
    mutate: MutatePlan | None = None
    call: CallPlan | None = None
    max_rows: int | None = None
