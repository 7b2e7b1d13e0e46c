"""Comparisons of SQLAlchemy as filters of PostgREST: a field, an operator, and a value.

The names of operators are those of `records/filters/operators.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Table, types
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.sql import operators as sql
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    CollectionAggregate,
    False_,
    Null,
    True_,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.types import TypeEngine

from amphibase.errors import NotSupported
from amphibase.records.filters.operators import OPERATORS, TRUTHS, Operator
from amphibase.records.filters.tree import Condition, FieldPath, Filter, Logic, Quantifier, Value
from amphibase.search import SearchMatch
from amphibase.supabase.records.dialect import stored_type
from amphibase.supabase.records.fields import field_path, unsupported, unwrapped
from amphibase.supabase.records.operands import array, operand
from amphibase.supabase.records.patterns import like

COMPARISONS: Mapping[Any, Operator] = {
    sql.eq: OPERATORS["eq"],
    sql.ne: OPERATORS["neq"],
    sql.lt: OPERATORS["lt"],
    sql.le: OPERATORS["lte"],
    sql.gt: OPERATORS["gt"],
    sql.ge: OPERATORS["gte"],
    sql.is_distinct_from: OPERATORS["isdistinct"],
}

MIRRORED: Mapping[Any, Any] = {
    sql.lt: sql.gt,
    sql.le: sql.ge,
    sql.gt: sql.lt,
    sql.ge: sql.le,
}
"""What a comparison becomes when its sides are exchanged, if not itself."""

NEGATIONS: Mapping[Any, Any] = {
    sql.is_not: sql.is_,
    sql.is_not_distinct_from: sql.is_distinct_from,
    sql.not_in_op: sql.in_op,
    sql.not_between_op: sql.between_op,
    sql.not_like_op: sql.like_op,
    sql.not_ilike_op: sql.ilike_op,
    sql.not_contains_op: sql.contains_op,
    sql.not_icontains_op: sql.icontains_op,
    sql.not_startswith_op: sql.startswith_op,
    sql.not_istartswith_op: sql.istartswith_op,
    sql.not_endswith_op: sql.endswith_op,
    sql.not_iendswith_op: sql.iendswith_op,
    sql.not_regexp_match_op: sql.regexp_match_op,
    sql.not_match_op: sql.match_op,
}


class Pattern(NamedTuple):
    """An operator that matches a pattern, and whether anything may come before and after it."""

    name: str
    before: bool = False
    after: bool = False


PATTERNS: Mapping[Any, Pattern] = {
    sql.like_op: Pattern("like"),
    sql.ilike_op: Pattern("ilike"),
    sql.contains_op: Pattern("like", before=True, after=True),
    sql.icontains_op: Pattern("ilike", before=True, after=True),
    sql.startswith_op: Pattern("like", after=True),
    sql.istartswith_op: Pattern("ilike", after=True),
    sql.endswith_op: Pattern("like", before=True),
    sql.iendswith_op: Pattern("ilike", before=True),
}

BY_SQL: Mapping[str, Operator] = {
    operator.sql.removeprefix("{} ").removesuffix(" {}"): operator
    for operator in OPERATORS.values()
}
"""The operators by what stands between their sides in SQL, such as `@>`."""

SEARCHES: Mapping[str, Operator] = {
    part.removeprefix("@@ ").removesuffix("({})"): operator
    for part, operator in BY_SQL.items()
    if part.startswith("@@")
}
"""The operators of full text search by the function that reads the query."""

REGEX_BY_FLAGS = {None: "match", "": "match", "i": "imatch"}


def negated(condition: Condition) -> Condition:
    """Return the opposite of a condition."""
    return replace(condition, negated=not condition.negated)


class FieldComparison:
    """A comparison of one field of a table.

    Args:
        values: the value is appended to these.

    Raises:
        NotSupported: neither side is a field of the table.
    """

    def __init__(
        self, element: BinaryExpression[Any], operator: Any, table: Table, values: list[Value]
    ) -> None:
        self._element = element
        self._values = values
        left, right = unwrapped(element.left), unwrapped(element.right)
        self._vector: FunctionElement[Any] | None = None
        if _is_function(left, "to_tsvector"):
            self._vector, (*_, left) = left, map(unwrapped, left.clauses)
        field = field_path(left, table)
        if field is None and operator in COMPARISONS:
            left, right, operator = right, left, MIRRORED.get(operator, operator)
            field = field_path(left, table)
        if field is None:
            raise unsupported(element)
        self._field: FieldPath = field
        self._type: TypeEngine[Any] = left.type
        self._operator = operator
        self._right = right

    def condition(self) -> Condition:
        """Return the comparison as a condition.

        Raises:
            NotSupported: PostgREST has no such operator.
            InvalidValue: the value is none of the field's.
        """
        if isinstance(self._operator, custom_op):
            return self._custom(self._operator.opstring)
        if self._vector is not None:
            raise unsupported(self._element)
        if self._operator in COMPARISONS:
            return self._compared(COMPARISONS[self._operator])
        if self._operator in PATTERNS:
            return self._matched(PATTERNS[self._operator])
        others: Mapping[Any, Callable[[], Condition]] = {
            sql.is_: self._is,
            sql.in_op: self._in,
            sql.between_op: self._between,
            sql.regexp_match_op: self._regex,
            sql.match_op: lambda: self._search(
                "plainto_tsquery",
                self._value(self._right),
                self._element.modifiers.get("postgresql_regconfig"),
            ),
        }
        make = others.get(self._operator)
        if make is None:
            raise unsupported(self._element)
        return make()

    def _filter(self, operator: Operator, value: Value, **more: Any) -> Filter:
        return Filter(self._field, operator, self._position(value), **more)

    def _position(self, value: Value) -> int:
        self._values.append(value)
        return len(self._values) - 1

    def _value(self, element: Any) -> Any:
        """Return the value of a bound parameter. Raises NotSupported for anything else."""
        element = unwrapped(element)
        if isinstance(element, BindParameter) and element.effective_value is not None:
            return element.effective_value
        if isinstance(element, True_ | False_):
            return isinstance(element, True_)
        raise unsupported(self._element)

    def _text(self, value: Any, type_: TypeEngine[Any] | None = None) -> str:
        return operand(self._field.name, type_ or self._type, value)

    def _compared(self, operator: Operator) -> Condition:
        right = self._right
        if isinstance(right, Null) and operator is OPERATORS["isdistinct"]:
            return Filter(self._field, OPERATORS["is"], negated=True, truth=TRUTHS["null"])
        if isinstance(right, CollectionAggregate):
            items = self._value(right.element)
            quantifier: Quantifier = "any" if right.operator is sql.any_op else "all"
            if not operator.quantifiable:
                raise unsupported(self._element)
            text = array([self._text(each) for each in items])
            return self._filter(operator, text, quantifier=quantifier)
        return self._filter(operator, self._text(self._value(right)))

    def _is(self) -> Condition:
        names = {Null: "null", True_: "true", False_: "false"}
        name = names.get(type(self._right))
        if name is None:
            raise unsupported(self._element)
        return Filter(self._field, OPERATORS["is"], truth=TRUTHS[name])

    def _in(self) -> Condition:
        items = self._value(self._right)
        texts = [None if each is None else self._text(each) for each in items]
        if None in texts or texts == [""]:  # `in` has no NULL, and reads ("") as an empty list
            return self._filter(OPERATORS["eq"], array(texts), quantifier="any")
        return self._filter(OPERATORS["in"], [*dict.fromkeys(map(str, texts))])

    def _between(self) -> Condition:
        if self._element.modifiers.get("symmetric"):
            raise unsupported(self._element)
        low, high = (self._text(self._value(bound)) for bound in self._right.clauses)
        bounds = (self._filter(OPERATORS["gte"], low), self._filter(OPERATORS["lte"], high))
        return Logic("and", bounds)

    def _matched(self, pattern: Pattern) -> Condition:
        text = self._text(self._value(self._right), types.Text())
        escape = self._element.modifiers.get("escape")
        operator, value = like(
            pattern.name, text, escape, before=pattern.before, after=pattern.after
        )
        return self._filter(operator, value)

    def _regex(self) -> Condition:
        name = REGEX_BY_FLAGS.get(self._element.modifiers.get("flags"))
        if name is None:
            raise unsupported(self._element)
        return self._filter(OPERATORS[name], self._text(self._value(self._right), types.Text()))

    def _custom(self, opstring: str) -> Condition:
        right = self._right
        if opstring == "@@" and isinstance(right, FunctionElement):
            *language, words = (self._value(each) for each in right.clauses)
            if len(language) > 1:
                raise unsupported(self._element)
            return self._search(right.name, words, language[0] if language else None)
        operator = BY_SQL.get(opstring)
        if operator is None or self._vector is not None:
            raise unsupported(self._element)
        of = self._type if isinstance(right.type, types.NullType) else right.type
        return self._filter(operator, self._text(self._value(right), of))

    def _search(self, function: str, words: str, language: str | None) -> Condition:
        """PostgREST reads a text by the configuration of the query that it searches it by."""
        if function not in SEARCHES or self._configuration(language) != language:
            raise unsupported(self._element)
        position = None if language is None else self._position(language)
        return self._filter(SEARCHES[function], words, language=position)

    def _configuration(self, of_query: str | None) -> str | None:
        """Return the configuration by which the text is read."""
        if self._vector is not None:
            configuration, *_ = [*self._vector.clauses][:-1] or [None]
            return None if configuration is None else str(self._value(configuration))
        is_vector = isinstance(stored_type(self._type), TSVECTOR)
        return of_query if is_vector else None


def _is_function(element: Any, name: str) -> bool:
    return isinstance(element, FunctionElement) and element.name == name


def contains_value(element: BinaryExpression[Any], table: Table, values: list[Value]) -> Condition:
    """Return `value == any_(column)` as a condition: the column, an array, contains the value.

    Args:
        values: the value is appended to these.

    Raises:
        NotSupported: it is anything else.
    """
    aggregate: Any = element.right
    column, value = unwrapped(aggregate.element), unwrapped(element.left)
    field = field_path(column, table)
    if (
        field is None
        or aggregate.operator is not sql.any_op
        or not isinstance(value, BindParameter)
        or value.effective_value is None
    ):
        raise unsupported(element)
    values.append(operand(field.name, column.type, [value.effective_value]))
    return Filter(field, OPERATORS["cs"], len(values) - 1)


def search_filter(element: SearchMatch, table: Table, values: list[Value]) -> Condition:
    """Return a full text search as a condition.

    Args:
        values: the query and its language are appended to these.

    Raises:
        NotSupported: it is over several columns, or over something else.
    """
    column, *others = element.columns_searched
    if others:
        raise NotSupported(
            "The Data API of Supabase searches one column at a time: search a generated column "
            "that holds the text of the others"
        )
    field = field_path(column, table)
    if field is None:
        raise unsupported(element)
    values += [element.query, element.language]
    return Filter(field, OPERATORS["wfts"], len(values) - 2, language=len(values) - 1)
