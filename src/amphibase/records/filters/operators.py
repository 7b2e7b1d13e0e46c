"""The operators of filters: one table, read by the parser and by whatever writes SQL.

The names are PostgREST's
(https://docs.postgrest.org/en/v14/references/api/tables_views.html#operators).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Any, NamedTuple

from sqlalchemy.sql import operators as sql


class Argument(Enum):
    """What follows an operator in a query string."""

    VALUE = "a value"
    PATTERN = "a pattern of LIKE, in which `*` stands for `%`"
    LIST = "values in parentheses"
    TRUTH = "one of the names in `TRUTHS`"
    SEARCH = "a text search query; its configuration may stand before, in parentheses"


class ColumnKind(Flag):
    """What the values of a model's column can be compared by."""

    STRUCTURED = auto()
    """JSON and arrays: not alike on every database."""
    UNORDERED = auto()
    """Booleans, bytes and enums: by equality."""
    ORDERED = auto()
    """Numbers, dates, UUIDs: also by order."""
    TEXT = auto()
    """Also by patterns."""


SCALAR = ColumnKind.UNORDERED | ColumnKind.ORDERED | ColumnKind.TEXT
SORTABLE = ColumnKind.ORDERED | ColumnKind.TEXT


class Portable(NamedTuple):
    """An operator that means the same on every database.

    Attributes:
        operator: SQLAlchemy's own, which makes an expression of a column and a value.
        columns: the kinds of columns that it applies to.
    """

    operator: Callable[..., Any]
    columns: ColumnKind


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """An operator of filters.

    Attributes:
        name: in query strings.
        sql: its SQL for Postgres, with `{}` for the left and for the right side.
        argument: what follows it.
        quantifiable: whether `name(any)` and `name(all)` compare with each value of an array.
        portable: how the ready routes apply it; None where databases differ.
    """

    name: str
    sql: str
    argument: Argument = Argument.VALUE
    quantifiable: bool = False
    portable: Portable | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What `is` compares with.

    Attributes:
        sql: what follows IS.
        value, negated: the same for SQLAlchemy: the operand of `is_` or, negated, of `is_not`.
    """

    name: str
    sql: str
    value: bool | None = None
    negated: bool = False


OPERATORS: Mapping[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator("eq", "{} = {}", quantifiable=True, portable=Portable(sql.eq, SCALAR)),
        Operator("neq", "{} <> {}", portable=Portable(sql.ne, SCALAR)),
        Operator("gt", "{} > {}", quantifiable=True, portable=Portable(sql.gt, SORTABLE)),
        Operator("gte", "{} >= {}", quantifiable=True, portable=Portable(sql.ge, SORTABLE)),
        Operator("lt", "{} < {}", quantifiable=True, portable=Portable(sql.lt, SORTABLE)),
        Operator("lte", "{} <= {}", quantifiable=True, portable=Portable(sql.le, SORTABLE)),
        Operator(
            "like",
            "{} LIKE {}",
            Argument.PATTERN,
            quantifiable=True,
            portable=Portable(sql.like_op, ColumnKind.TEXT),
        ),
        Operator(
            "ilike",
            "{} ILIKE {}",
            Argument.PATTERN,
            quantifiable=True,
            portable=Portable(sql.ilike_op, ColumnKind.TEXT),
        ),
        Operator("in", "{} = ANY({})", Argument.LIST, portable=Portable(sql.in_op, SCALAR)),
        Operator(
            "is",
            "{} IS {}",
            Argument.TRUTH,
            portable=Portable(sql.is_, SCALAR | ColumnKind.STRUCTURED),
        ),
        Operator("match", "{} ~ {}", quantifiable=True),
        Operator("imatch", "{} ~* {}", quantifiable=True),
        Operator("isdistinct", "{} IS DISTINCT FROM {}"),
        Operator("cs", "{} @> {}"),
        Operator("cd", "{} <@ {}"),
        Operator("ov", "{} && {}"),
        Operator("sl", "{} << {}"),
        Operator("sr", "{} >> {}"),
        Operator("nxr", "{} &< {}"),
        Operator("nxl", "{} &> {}"),
        Operator("adj", "{} -|- {}"),
        Operator("fts", "{} @@ to_tsquery({})", Argument.SEARCH),
        Operator("plfts", "{} @@ plainto_tsquery({})", Argument.SEARCH),
        Operator("phfts", "{} @@ phraseto_tsquery({})", Argument.SEARCH),
        Operator("wfts", "{} @@ websearch_to_tsquery({})", Argument.SEARCH),
    )
}

TRUTHS: Mapping[str, Truth] = {
    truth.name: truth
    for truth in (
        Truth("null", "NULL"),
        Truth("not_null", "NOT NULL", negated=True),
        Truth("true", "TRUE", value=True),
        Truth("false", "FALSE", value=False),
        Truth("unknown", "UNKNOWN"),
    )
}
