"""The filters of a subscription: `column=operator.value`, joined by commas, all of which hold.

The grammar is Supabase Realtime's: `not.` before an operator negates it, commas within parentheses
or within a value in quotation marks do not divide.
"""

import json
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

MAX_CHARACTERS = 16 * 1024
"""Of the filters of one subscription, which are read letter by letter while others wait."""


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
    def text(self) -> str:
        """The operand in one text, for an error."""
        return f"{{{','.join(self.operand)}}}" if isinstance(self.operand, tuple) else self.operand

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
    if text is None or not text.strip():
        return ()
    if len(text) > MAX_CHARACTERS:
        raise InvalidBinding(f"filters are too long. Maximum {MAX_CHARACTERS} characters")
    segments = _divided(text.strip(), in_list=False)
    if len(segments) > MAX_FILTERS:
        raise InvalidBinding(f"too many filters. Maximum {MAX_FILTERS}")
    return tuple(_read_filter(segment.strip()) for segment in segments)


def _read_filter(segment: str) -> ChangeFilter:
    if not segment:
        raise _unreadable("filter must not contain empty segments (check for extra commas)")
    column, equals, rest = segment.partition("=")
    if not equals:
        raise _unreadable(json.dumps([column], ensure_ascii=False))
    is_negated = rest.startswith("not.")
    name, dot, value = rest.removeprefix("not.").partition(".")
    if not dot or name not in set(ChangeOperator):
        parts = [name, value] if dot else [name]
        raise _unreadable(json.dumps(parts, ensure_ascii=False))
    compared = ChangeOperator(name)
    operand: str | tuple[str, ...]
    if compared is ChangeOperator.IN:
        operand = _read_list(value)
    else:
        quoted = _QUOTED.fullmatch(value)
        operand = value if quoted is None else _ESCAPE.sub(r"\1", quoted[1])
        operand = _checked_operand(compared, operand)
    return ChangeFilter(column.strip(), compared, operand, is_negated)


def _checked_operand(compared: ChangeOperator, value: str) -> str:
    if compared is ChangeOperator.IS:
        if value.lower() not in _TRUTHS:
            raise _unreadable(f"is takes {', '.join(_TRUTHS)}, not {value!r}")
        return value.lower()
    if compared in _REGULAR and any(each.isdigit() for each in _ESCAPE.findall(value)):
        raise _unreadable(
            f"{compared} takes no backreferences, which can take unlimited time: {value!r}"
        )
    return value


def _unreadable(why: str) -> InvalidBinding:
    return InvalidBinding(f"Error parsing `filter` params: {why}")


def _divided(text: str, *, in_list: bool) -> list[str]:
    """Return the parts between commas that are not quoted, nor, outside a list, in parentheses."""
    parts, start, depth, is_quoted, before = [], 0, 0, False, "," if in_list else ""
    place = 0
    while place < len(text):
        letter = text[place]
        if letter == "\\" and (is_quoted or in_list):
            place += 1  # what follows is itself
        elif is_quoted:
            is_quoted = letter != '"'
        elif letter == '"':
            is_quoted = before in (".", "(", ",")
        elif letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
        elif not in_list and letter in "()":
            depth = max(0, depth + (1 if letter == "(" else -1))
        if not (in_list and letter == " "):
            before = letter
        place += 1
    return [*parts, text[start:]]


def _read_list(text: str) -> tuple[str, ...]:
    """Read the values of `in`, as Postgres reads those of an array."""
    if len(text) < 2 or not (text.startswith("(") and text.endswith(")")):
        raise _unreadable("`in` filter value must be wrapped by parentheses")
    inner = text[1:-1]
    parts = _divided(inner, in_list=True) if inner.strip() else []
    if len(parts) > MAX_VALUES:
        raise InvalidBinding(f"too many values for `in` filter. Maximum {MAX_VALUES}")
    values = []
    for part in map(str.strip, parts):
        quoted = _QUOTED.fullmatch(part)
        values.append(_ESCAPE.sub(r"\1", part if quoted is None else quoted[1]))
    return tuple(values)
