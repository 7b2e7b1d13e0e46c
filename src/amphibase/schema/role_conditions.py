"""Decides what of a condition a role of the database decides alone: `anon`, `authenticated`."""

from dataclasses import replace

from sqlalchemy import false
from sqlalchemy.sql import visitors

from amphibase.access.conditions import (
    AllOf,
    Always,
    AnyOf,
    Condition,
    HasRelated,
    InScope,
    IsAdmin,
    IsOwner,
    IsSignedIn,
    Matches,
    Never,
    all_of,
    any_of,
)
from amphibase.schema.grants import ANON


def for_role(condition: Condition, role: str) -> Condition:
    """Return a condition as it is for the callers of a role.

    What reads a table that the role may not select from comes to nothing, since Postgres would
    reject it.
    """
    match condition:
        case AnyOf(parts):
            return any_of(*(for_role(part, role) for part in parts))
        case AllOf(parts):
            return all_of(*(for_role(part, role) for part in parts))
        case HasRelated():
            inner = for_role(condition.condition, role)
            return inner if isinstance(inner, Never) else replace(condition, condition=inner)
        case Matches():
            return _matches(condition, role)
        case IsSignedIn():
            return Never() if role == ANON else Always()
        case IsOwner(column, or_anonymous):
            if role != ANON:
                return IsOwner(column)
            return Matches(column.is_(None)) if or_anonymous else Never()
        case IsAdmin() | InScope():
            return Never() if role == ANON else condition
    return condition


def _matches(condition: Matches, role: str) -> Condition:
    """Return an expression without the subqueries that are empty for the role."""
    empty = {
        subquery.element
        for subquery in condition.subqueries
        if any(isinstance(for_role(each, role), Never) for _, each in subquery.conditions)
    }
    if not empty:
        return condition
    expression = visitors.replacement_traverse(
        condition.expression, {}, lambda element, **_: false() if element in empty else None
    )
    subqueries = tuple(each for each in condition.subqueries if each.element not in empty)
    return Matches(expression, subqueries)
