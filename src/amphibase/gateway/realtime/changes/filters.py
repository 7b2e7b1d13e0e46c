"""The filters of a subscription: `column=operator.value`, joined by commas, all of which hold.

The grammar is Supabase Realtime's: `not.` before an operator negates it, commas within parentheses
or within a value in quotation marks do not divide.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

MAX_VALUES = 100
"""Of `in`."""

MAX_FILTERS = 20
"""Of one subscription."""


class ChangeOperator(StrEnum):
    """How a filter compares."""

    EQ = "eq"
    NEQ = "neq"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    LIKE = "like"
    ILIKE = "ilike"
    IS = "is"
    MATCH = "match"
    IMATCH = "imatch"
    IS_DISTINCT = "isdistinct"


TEXT_OPERATORS = frozenset(
    (ChangeOperator.LIKE, ChangeOperator.ILIKE, ChangeOperator.MATCH, ChangeOperator.IMATCH)
)
_REGULAR = frozenset((ChangeOperator.MATCH, ChangeOperator.IMATCH))
_TRUTHS = ("null", "true", "false", "unknown")

# Of a value, with the operand as the only parameter.
_EXPRESSIONS: Mapping[ChangeOperator, str] = MappingProxyType(
    {
        ChangeOperator.EQ: "{value} = CAST({operand} AS {type})",
        ChangeOperator.NEQ: "{value} <> CAST({operand} AS {type})",
        ChangeOperator.LT: "{value} < CAST({operand} AS {type})",
        ChangeOperator.LTE: "{value} <= CAST({operand} AS {type})",
        ChangeOperator.GT: "{value} > CAST({operand} AS {type})",
        ChangeOperator.GTE: "{value} >= CAST({operand} AS {type})",
        ChangeOperator.IN: "{value} = ANY (CAST(CAST({operand} AS text[]) AS {type}[]))",
        ChangeOperator.LIKE: "{value}::text LIKE {operand}",
        ChangeOperator.ILIKE: "{value}::text ILIKE {operand}",
        ChangeOperator.MATCH: "{value}::text ~ {operand}",
        ChangeOperator.IMATCH: "{value}::text ~* {operand}",
        ChangeOperator.IS_DISTINCT: "{value} IS DISTINCT FROM CAST({operand} AS {type})",
    }
)

_IN_ARRAYS = "ROW({value}) = ANY (ARRAY(SELECT ROW(CAST(o AS {type})) FROM unnest({operand}) AS o))"
"""`in` of a column of arrays: an array of arrays would be one of their elements."""

_ORDERED: Mapping[ChangeOperator, Callable[[int, int], bool]] = MappingProxyType(
    {
        ChangeOperator.LT: operator.lt,
        ChangeOperator.LTE: operator.le,
        ChangeOperator.GT: operator.gt,
        ChangeOperator.GTE: operator.ge,
    }
)

INTEGERS = frozenset(("int2", "int4", "int8"))
EXACT = INTEGERS | {"bool", "uuid", "text", "varchar", "date"}
"""Types of which equal values have equal texts (with a deterministic collation)."""

_HEAD = re.compile(r"\s*([^=,]+?)\s*=\s*(not\.)?([a-z]+)\.")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class InvalidBinding(Exception):
    """A subscription that cannot be made; the message is for the client."""


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """One condition on a row.

    Attributes:
        operand: a text; of `in` several.
        is_negated: whether it holds where the comparison is false; never where it is unknown.
    """

    column: str
    operator: ChangeOperator
    operand: str | tuple[str, ...]
    is_negated: bool = False

    def compile(self, sql_type: str) -> str:
        """Return the condition on `value`, a text, as SQL, with `$2` for the operand.

        Args:
            sql_type: of the column, as `format_type` writes it.
        """
        value = f"CAST(value AS {sql_type})"
        if self.operator is ChangeOperator.IS:
            condition = f"{value} IS {str(self.operand).upper()}"  # one of `_TRUTHS`
        else:
            is_array = self._is_list and sql_type.endswith("[]")
            expression = _IN_ARRAYS if is_array else _EXPRESSIONS[self.operator]
            condition = expression.format(
                value=value, operand="$2::text[]" if self._is_list else "$2::text", type=sql_type
            )  # fmt: skip
        return f"coalesce({'NOT ' if self.is_negated else ''}({condition}), false)"

    @property
    def parameters(self) -> tuple[str | list[str], ...]:
        """What `compile` has a parameter for."""
        if self.operator is ChangeOperator.IS:
            return ()
        return ([*self.operand],) if isinstance(self.operand, tuple) else (self.operand,)

    @property
    def _is_list(self) -> bool:
        return isinstance(self.operand, tuple)

    def decide(self, value: str | None, type_name: str) -> bool | None:
        """Decide without the database; None where only it can.

        Args:
            value: as the database writes it.
            type_name: of the column, one of `EXACT`; the operand is as the database writes it.
        """
        if value is None:
            if self.operator in (ChangeOperator.IS, ChangeOperator.IS_DISTINCT):
                return None
            return False
        result: bool | None = None
        match self.operator, self.operand:
            case ChangeOperator.EQ, operand:
                result = value == operand
            case ((ChangeOperator.NEQ | ChangeOperator.IS_DISTINCT), operand):
                result = value != operand
            case ChangeOperator.IN, operand:
                result = value in operand
            case compared, str(operand) if compared in _ORDERED and type_name in INTEGERS:
                result = _ORDERED[compared](int(value), int(operand))
        return None if result is None else result is not self.is_negated


def parse_filters(text: str | None) -> tuple[ChangeFilter, ...]:
    """Parse the `filter` of a subscription; one of white space alone has none.

    Raises:
        InvalidBinding: it is not of the grammar.
    """
    filters: list[ChangeFilter] = []
    place = 0
    while text and text.strip():
        head = _HEAD.match(text, place)
        if head is None:
            raise InvalidBinding(f"Error parsing `filter` params: {text[place:]!r}")
        column, negation, name = head.groups()
        if name not in set(ChangeOperator):
            raise InvalidBinding(f"Error parsing `filter` params: unknown operator {name}")
        value, place = _read_value(text, head.end())
        compared = ChangeOperator(name)
        operand: str | tuple[str, ...] = value
        if compared is ChangeOperator.IN:
            operand = _read_list(value)
        elif compared is ChangeOperator.IS:
            operand = value.lower()
            if operand not in _TRUTHS:
                raise InvalidBinding(
                    f"Error parsing `filter` params: is takes {', '.join(_TRUTHS)}, not {value!r}"
                )
        elif compared in _REGULAR and any(each.isdigit() for each in _ESCAPE.findall(value)):
            raise InvalidBinding(
                f"Error parsing `filter` params: {name} takes no backreferences, which can take "
                f"unlimited time: {value!r}"
            )
        if len(filters) == MAX_FILTERS:
            raise InvalidBinding(f"too many filters. Maximum {MAX_FILTERS}")
        filters.append(ChangeFilter(column, compared, operand, negation is not None))
        if place >= len(text):
            break
        place += 1  # the comma
    return tuple(filters)


def _read_value(text: str, place: int) -> tuple[str, int]:
    """Return the value that begins at a place, and where it ends."""
    quoted = _QUOTED.match(text, place)
    if quoted is not None and text[quoted.end() : quoted.end() + 1] in ("", ","):
        return _ESCAPE.sub(r"\1", quoted[1]), quoted.end()
    depth = 0
    for end in range(place, len(text)):
        if text[end] == "(":
            depth += 1
        elif text[end] == ")":
            depth -= 1
        elif text[end] == "," and depth <= 0:
            return text[place:end], end
    return text[place:], len(text)


def _read_list(text: str) -> tuple[str, ...]:
    if not (text.startswith("(") and text.endswith(")")):
        raise InvalidBinding("Error parsing `filter` params: in takes a list in parentheses")
    values, inner, place = [], text[1:-1], 0
    while place <= len(inner):
        value, place = _read_value(inner, place)
        values.append(value)
        place += 1
    if len(values) > MAX_VALUES:
        raise InvalidBinding(f"too many values for `in` filter. Maximum {MAX_VALUES}")
    return tuple(values)
