"""What the database offers, as data: tables, columns, relationships and functions.

`introspection` reads it; identifiers in SQL come from here alone, never from a request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Cardinality: TypeAlias = Literal["many-to-one", "one-to-many", "one-to-one", "many-to-many"]
Volatility: TypeAlias = Literal["immutable", "stable", "volatile"]


class Name(NamedTuple):
    """A table, view or function: its schema and its name."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        type: as SQL writes it, schema-qualified unless in pg_catalog: "character varying(20)".
        base_type: the same of the base type of a domain, else `type` without its modifier.
        default: the SQL of the default, None without one.
        is_generated: cannot be written (GENERATED ALWAYS AS … STORED, or identity ALWAYS).
        max_length: of char, varchar and bits.
        enum: the labels, in order, of an enum type.
        is_composite_or_array: a JSON path may be applied to it after `to_jsonb`.
    """

    name: str
    type: str
    base_type: str
    nullable: bool
    default: str | None = None
    is_generated: bool = False
    max_length: int | None = None
    enum: tuple[str, ...] = ()
    is_composite_or_array: bool = False
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table, view, materialized view, foreign table or partitioned table."""

    name: Name
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...]
    is_view: bool = False
    is_partitioned: bool = False
    insertable: bool = True
    updatable: bool = True
    deletable: bool = True
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Junction:
    """The table between the two sides of a many-to-many relationship.

    Attributes:
        source, target: pairs of (column of the junction, column of the side).
    """

    table: Name
    source_constraint: str
    target_constraint: str
    source: tuple[tuple[str, str], ...]
    target: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Relationship:
    """How rows of `source` lead to rows of `target`; each foreign key gives one in each direction,
    also for views that show its columns.

    Attributes:
        constraint: the name of the foreign key.
        columns: pairs of (column of source, column of target); empty with a junction.
        refers: whether the foreign key is source's, so that its columns refer to target's.
    """

    source: Name
    target: Name
    cardinality: Cardinality
    constraint: str
    columns: tuple[tuple[str, str], ...] = ()
    junction: Junction | None = None
    refers: bool = False

    @property
    def is_self(self) -> bool:
        return self.source == self.target

    @property
    def to_one(self) -> bool:
        return self.cardinality in ("many-to-one", "one-to-one")


@dataclass(frozen=True, slots=True)
class ComputedRelationship:
    """A function from a row of `source` to rows of `target` (to one row: not SETOF, or ROWS 1)."""

    function: Name
    source: Name
    target: Name
    to_one: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function; unnamed ones have the name ""."""

    name: str
    type: str
    required: bool
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class Returns:
    """What a function returns.

    Attributes:
        type: as SQL writes it.
        is_composite: a row of known columns: of a table (`table`), a composite type or OUT/TABLE
            columns, be it one. A bare `record` is a value like any other.
        table: the table, view or named composite type the rows are of.
        is_void: nothing.
        columns: of rows that are of no table in the catalog, where they are known.
    """

    type: str
    is_set: bool
    is_composite: bool
    table: Name | None = None
    is_void: bool = False
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routine:
    """A function or, where functions are overloaded, one of them.

    Attributes:
        settings: `SET x TO y` of the function that the caller's transaction must take over:
            statement_timeout, isolation (`default_transaction_isolation`).
    """

    name: Name
    parameters: tuple[Parameter, ...]
    returns: Returns
    volatility: Volatility
    settings: Mapping[str, str]
    description: str | None = None


@dataclass(frozen=True, slots=True)
class MediaHandler:
    """What renders rows as a media type, which a domain is named after; "*/*" is all of them.

    Attributes:
        function: an aggregate over rows, or a function whose value is of the media type.
        target: the table whose rows an aggregate takes, or the function itself; None of an
            aggregate over the rows of any table.
    """

    function: Name
    media_type: str
    target: Name | None

    @property
    def is_aggregate(self) -> bool:
        return self.function != self.target


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything, at one moment.

    Attributes:
        schemas: the exposed ones, the first is the default; of the others only what relationships
            need is here.
        relationships: by source table.
        computed_fields: by table: functions of one row of it that give one scalar; a request sees
            those in its search path.
        functions: by name: all overloads, those of few parameters first.
        representations: casts of domains that say how their values look outside, by the types they
            lead from and to: (domain, "json"), ("json", domain) and ("text", domain) → function.
        timezones: the names that `Prefer: timezone=` may say.
        role_settings: by role, what ALTER ROLE … SET says, which SET ROLE alone does not heed; of
            a superuser's settings those that the connection's role may set.
        requires_where: whether an UPDATE or DELETE without a condition is rejected, as by the
            module safeupdate.
        version: of the server, such as 180006.
    """

    schemas: tuple[str, ...]
    tables: Mapping[Name, Table]
    relationships: Mapping[Name, tuple[Relationship, ...]]
    computed_relationships: Mapping[Name, tuple[ComputedRelationship, ...]]
    computed_fields: Mapping[Name, frozenset[Name]]
    functions: Mapping[Name, tuple[Routine, ...]]
    media_handlers: tuple[MediaHandler, ...]
    representations: Mapping[tuple[str, str], Name]
    timezones: frozenset[str]
    schema_descriptions: Mapping[str, str | None]
    role_settings: Mapping[str, Mapping[str, str]]
    requires_where: bool
    version: int
