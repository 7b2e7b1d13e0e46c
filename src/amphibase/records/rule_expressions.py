"""Checks of the SQLAlchemy expressions in access rules: what cannot hold on every backend is
rejected where it is declared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NoReturn

from sqlalchemy import (
    CTE,
    BindParameter,
    Boolean,
    Cast,
    Column,
    ColumnElement,
    Enum,
    Exists,
    Integer,
    String,
    Table,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, ColumnClause, Over, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import Alias, HasPrefixes, HasSuffixes, SelectBase, TableClause
from sqlalchemy.types import NullType, TypeEngine

from amphibase.access.caller import ID, CallerValue
from amphibase.models import SoftDelete
from amphibase.private_names.sqlalchemy import untraversed_texts, without_any_annotations

_CALLER_TYPES: list[tuple[type[TypeEngine[Any]], str]] = [
    (Uuid, "a UUID"),
    (Integer, "an integer"),
]
"""What values of the caller are beside text."""
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

FUNCTIONS = frozenset(
    {"abs", "coalesce", "length", "lower", "now", "nullif", "replace", "trim", "upper"}
)
"""Functions that mean the same on each backend, and give the same within a statement."""
OPERATORS = {
    operators.regexp_match_op: "a regular expression",
    operators.not_regexp_match_op: "a regular expression",
    operators.collate: "a collation",
}
"""Operators that do not."""
SELECTED = ("1", "*")
"""What SQLAlchemy writes as the columns of an EXISTS."""


def expression_of(
    build: Callable[[Any], Any], mapper: Mapper[Any], where: str
) -> ColumnElement[bool]:
    """Return the expression of a rule.

    Args:
        build: gets the mapped class.
        where: the rule's place, for messages.

    Raises:
        TypeError: it is no expression, or one that cannot be a rule.
    """
    expression = build(mapper.class_)
    if hasattr(expression, "__clause_element__"):
        expression = expression.__clause_element__()
    if not isinstance(expression, ColumnElement):
        raise TypeError(f"{where} must return an SQLAlchemy expression, not {expression!r}")
    expression = without_any_annotations(expression)
    for part in visitors.iterate(expression):
        _check_part(part, where)
        if _is_deleted_at(part, mapper):
            raise TypeError(f"{where} reads deleted_at, but deleted rows do not exist for callers")
    if not isinstance(_plain(expression.type), Boolean | NullType):
        raise TypeError(f"{where} must return a condition, not a value of {expression.type!r}")
    return expression


def tables_of(
    expression: ColumnElement[bool], mapper: Mapper[Any], where: str
) -> Iterator[tuple[Exists, tuple[Table, ...]]]:
    """Yield each subquery of an expression with the tables in its FROM.

    Args:
        mapper: of the row, whose columns a subquery may compare.

    Raises:
        TypeError: a column is none of the row's or of a subquery around it, or a subquery is such
            as cannot be in a rule.
    """
    own = _name(mapper.local_table)
    subqueries: dict[Exists, tuple[Table, ...]] = {}
    inside: set[Any] = set()
    for part in visitors.iterate(expression):
        if isinstance(part, Exists) and part not in inside:
            inner = list(visitors.iterate(part.element))
            if any(isinstance(each, Exists) for each in inner):
                raise TypeError(f"{where} has a subquery in a subquery; use through() instead")
            tables = tuple(_from(inner, mapper, where))
            _check_columns(inner, {own, *(table.fullname for table in tables)}, where)
            subqueries[part] = tables
            inside.update(inner)
    outside = [each for each in visitors.iterate(expression) if each not in inside]
    if any(isinstance(each, SelectBase) for each in outside):
        raise TypeError(f"{where} compares with the rows of a query; use exists().where(…)")
    _check_columns(outside, {own}, where)
    yield from subqueries.items()


def scope_condition(condition: Any, table: Table, where: str) -> ColumnElement[bool]:
    """Return a condition of the memberships that count.

    Raises:
        TypeError: it is more than columns of the table and constants.
    """
    if not isinstance(condition, ColumnElement):
        raise TypeError(f"{where}: an SQLAlchemy expression was expected, not {condition!r}")
    parts = list(visitors.iterate(condition))
    for part in parts:
        _check_part(part, where)
        if isinstance(part, CallerValue | SelectBase):
            raise TypeError(f"{where}: a scope depends on columns of {table.name} alone")
    _check_columns(parts, {table.fullname}, where)
    return without_any_annotations(condition)


def _check_part(part: Any, where: str) -> None:
    match part:
        case TextClause():
            _reject(where, "SQL text")
        case ColumnClause(is_literal=True) if part.name not in SELECTED:
            _reject(where, "SQL text")
        case FunctionElement():
            name = str(getattr(part, "name", type(part).__name__))
            schema = [*getattr(part, "packagenames", ())]
            if schema or name.lower() not in FUNCTIONS:
                name = ".".join([*schema, name])
                allowed = ", ".join(sorted(FUNCTIONS))
                _reject(where, f"the function {name}", f"those that it can have: {allowed}")
        case Cast():
            _reject(where, "a cast")
        case BindParameter():
            _check_constant(part, where)
        case BinaryExpression(left=left, right=right):
            _check_types(left, right, part.operator, where)
            _check_types(right, left, part.operator, where)
        case Over():
            _reject(where, "a window function")
        case CTE():
            _reject(where, "a common table expression")
        case Alias():
            _reject(where, f"the alias {part.name}", "name the model itself")
        case HasPrefixes() | HasSuffixes() if any(untraversed_texts(part)):
            _reject(where, "SQL text")
    operator = getattr(part, "operator", None)
    if isinstance(operator, custom_op):
        _reject(where, f"the operator {operator.opstring}")
    if operator in OPERATORS:
        _reject(where, OPERATORS[operator])


def _check_constant(constant: BindParameter[Any], where: str) -> None:
    """Check that a constant can be written into a policy as what its column holds: a datetime
    without a time zone cannot, and no text with a NUL character."""
    value, type_ = constant.value, constant.type
    for each in value if constant.expanding and isinstance(value, Sequence) else [value]:
        if isinstance(each, str) and "\0" in each:
            _reject(where, f"the text {each!r} with a NUL character")
        if each is None or isinstance(type_, NullType):
            continue
        write = type_.dialect_impl(_DIALECT).literal_processor(_DIALECT)
        try:
            if isinstance(each, datetime) and not each.tzinfo and getattr(type_, "timezone", False):
                raise ValueError("it has no time zone; say datetime(…, tzinfo=UTC)")
            if write is None:
                raise ValueError(f"{type_!r} has no form in SQL text")
            write(each)
        except Exception as error:
            raise TypeError(f"{where} has the constant {each!r}: {error}") from error


def _check_types(value: Any, other: Any, operator: Any, where: str) -> None:
    """Check that a value of the caller is compared with one of its type: SQLite compares any two,
    Postgres does not."""
    if not (isinstance(value, CallerValue) and operators.is_comparison(operator)):
        return
    kind, name = next(
        (pair for pair in _CALLER_TYPES if isinstance(value.type, pair[0])), (String, "text")
    )
    type_: TypeEngine[Any] = other.type
    is_enum = isinstance(type_, Enum) and type_.native_enum
    if is_enum or not isinstance(type_, kind | NullType | TypeDecorator):
        advice = "" if value.path == ID else "; claims have a type: me.claim(…, type=UUID)"
        raise TypeError(
            f"{where} compares {value}, which is {name}, with {other} of {type_!r}{advice}"
        )


def _plain(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    return type_.impl_instance if isinstance(type_, TypeDecorator) else type_


def _check_columns(parts: Iterable[Any], tables: set[str], where: str) -> None:
    for part in parts:
        if isinstance(part, Column) and _name(part.table) not in tables:
            raise TypeError(
                f"{where} reads {part.table}.{part.name}, which is no column of the row; reach "
                "other rows by exists().where(…), has() or any()"
            )


def _from(inner: Iterable[Any], mapper: Mapper[Any], where: str) -> list[Table]:
    """Return the tables of a subquery beside the row's own, which the subquery correlates with."""
    sources = [each.table if isinstance(each, Column) else each for each in inner]
    own = _name(mapper.local_table)
    tables = [each for each in sources if isinstance(each, Table) and _name(each) != own]
    if not tables:
        _reject(where, f"{own}, the model's own table, in a subquery")
    return list(dict.fromkeys(tables))


def _is_deleted_at(part: Any, mapper: Mapper[Any]) -> bool:
    if not (isinstance(part, Column) and issubclass(mapper.class_, SoftDelete)):
        return False
    return part.name == "deleted_at" and _name(part.table) == _name(mapper.local_table)


def _name(table: Any) -> str:
    return table.fullname if isinstance(table, TableClause) else ""


def _reject(where: str, what: str, advice: str = "") -> NoReturn:
    end = f"; {advice}" if advice else ""
    raise TypeError(f"{where} has {what}, which a rule cannot have on every backend{end}")
