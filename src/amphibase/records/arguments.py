"""Checks of the arguments that the methods of every repository take."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.sql.elements import ClauseElement

from amphibase.backend import MAX_LIMIT
from amphibase.errors import InvalidRequest

MAX_OFFSET = 2**31 - 1


def check_list(name: str, items: Sequence[Any]) -> Sequence[Any]:
    """Return the items of an argument. Raises InvalidRequest for one that is not in a list."""
    if isinstance(items, list | tuple):
        return items
    raise InvalidRequest(f"{name}: a list was expected, as in {name}=[Note.title]")


def check_limit(limit: int) -> None:
    """Raise InvalidRequest for a limit that is out of range."""
    if not (isinstance(limit, int) and 1 <= limit <= MAX_LIMIT):
        raise InvalidRequest(f"limit: 1 to {MAX_LIMIT} was expected, not {limit!r}")


def check_offset(offset: int) -> None:
    """Raise InvalidRequest for an offset that is out of range."""
    if not (isinstance(offset, int) and 0 <= offset <= MAX_OFFSET):
        raise InvalidRequest(f"offset: 0 to {MAX_OFFSET} was expected, not {offset!r}")


def check_instances(model: type[Any], rows: Sequence[object]) -> None:
    """Raise TypeError for a row of another class, whose columns may have the same names."""
    for row in rows:
        if not isinstance(row, model):
            raise TypeError(
                f"an object of {model.__name__} was expected, not of {type(row).__name__}"
            )


def check_filters(where: Sequence[Any]) -> None:
    """Raise InvalidRequest for a filter that is not an expression."""
    for each in where:
        if not isinstance(each, ClauseElement):
            raise InvalidRequest("A filter was expected, as in Note.stars > 3")


def check_filtered(where: Sequence[Any], everything: bool) -> None:
    """Raise InvalidRequest where rows would be changed without a filter, unless all are meant."""
    if not where and not everything:
        raise InvalidRequest("There is no filter; set everything=True to change every row")
