"""The patterns of LIKE in filters.

Postgres rejects one that ends with an escape character when it compares that far, and it may do so
for rows that the caller does not see: the error would tell how their text begins.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BindParameter
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, ClauseElement, ColumnClause, Grouping

from amphibase.errors import InvalidValue

_BACKSLASH = "\\"
_OPERATORS = {
    operators.like_op,
    operators.not_like_op,
    operators.ilike_op,
    operators.not_ilike_op,
    operators.endswith_op,
    operators.not_endswith_op,
    operators.iendswith_op,
    operators.not_iendswith_op,
}
"""Those in which a bound value is the end of the pattern."""


def check_patterns(expressions: Iterable[ClauseElement]) -> None:
    """Raise InvalidValue for a pattern that ends with an escape character that escapes nothing."""
    for expression in expressions:
        for part in _parts(expression):
            if isinstance(part, BinaryExpression) and part.operator in _OPERATORS:
                _check(part)


def _parts(expression: ClauseElement) -> Iterable[visitors.ExternallyTraversible]:
    """Return the expression and all that it holds; itself alone if it compares a column."""
    is_comparison = isinstance(expression, BinaryExpression) and (
        isinstance(expression.left, ColumnClause) and isinstance(expression.right, BindParameter)
    )
    return (expression,) if is_comparison else visitors.iterate(expression)


def _check(comparison: BinaryExpression[bool]) -> None:
    pattern = _end_of(comparison.right)
    escape = comparison.modifiers.get("escape") or _BACKSLASH
    if isinstance(pattern, str):
        escaping = len(pattern) - len(pattern.rstrip(escape))
        if escaping % 2:
            raise InvalidValue(f"A pattern must not end with {escape} that escapes nothing")


def _end_of(pattern: Any) -> Any:
    """Return the value that is bound as the end of a pattern; None where that is no value."""
    if isinstance(pattern, Grouping):
        return _end_of(pattern.element)
    if isinstance(pattern, BinaryExpression) and pattern.operator is operators.concat_op:
        return _end_of(pattern.right)
    return pattern.effective_value if isinstance(pattern, BindParameter) else None
