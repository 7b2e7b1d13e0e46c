"""What SQLAlchemy calls for attributes that an object does not hold: each raises NotLoaded."""

from collections.abc import Callable
from typing import Any, NoReturn

from amphibase.errors import NotLoaded

Loader = Callable[[Any, Any], NoReturn]


def relationship_not_loaded(model: type[Any], name: str) -> Loader:
    """Return what is called for a relationship that was not asked for."""
    return _raising(
        f"{model.__name__}.{name} was not loaded; ask for it: load=[{model.__name__}.{name}]"
    )


def column_not_readable(model: type[Any], name: str) -> Loader:
    """Return what is called for a column that is left to the service."""
    return _raising(f"{model.__name__}.{name} is read by the service alone")


def column_not_returned(model: type[Any], name: str) -> Loader:
    """Return what is called for a column that the database filled in, where the caller does not
    see the new row."""
    return _raising(
        f"{model.__name__}.{name} was filled in by the database, and who added the row may not "
        "read it"
    )


def _raising(message: str) -> Loader:
    def raise_not_loaded(state: Any, passive: Any) -> NoReturn:
        raise NotLoaded(message)

    return raise_not_loaded
