"""The columns by which relationships join."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BooleanClauseList

from amphibase.backend import Caller
from amphibase.errors import NotSupported
from amphibase.records.column_access import check_readable, hidden_columns


def equal_columns(
    join: Any, relationship: RelationshipProperty[Any]
) -> tuple[list[Column[Any]], list[Column[Any]]]:
    """Return the columns that a join of a relationship compares.

    Args:
        join: its `primaryjoin` or `secondaryjoin`.

    Returns:
        The columns of the row at hand, and those that must equal them: of the related row, or of
        the table in between.

    Raises:
        NotSupported: the join compares by more than equality.
    """
    known: Any = {*(relationship.local_remote_pairs or ())}
    here: list[Column[Any]] = []
    far: list[Column[Any]] = []
    for condition in _parts(join):
        left: Any = getattr(condition, "left", None)
        right: Any = getattr(condition, "right", None)
        pairs = [pair for pair in ((left, right), (right, left)) if pair in known]
        if not pairs or getattr(condition, "operator", None) is not operators.eq:
            raise NotSupported(f"{relationship} joins by more than equal columns; query it apart")
        here.append(pairs[0][0])
        far.append(pairs[0][1])
    return here, far


def check_joinable(relationship: RelationshipProperty[Any], caller: Caller) -> None:
    """Raise NotSupported for a relationship that joins by columns which the caller may not read."""
    if caller.role != "service_role":
        check_readable(
            hidden_columns(c for pair in relationship.local_remote_pairs or () for c in pair)
        )


def _parts(condition: Any) -> Sequence[Any]:
    """Return the conditions that have to hold together."""
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        return condition.clauses
    return [condition]
