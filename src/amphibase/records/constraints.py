"""Errors of constraints, named by the attributes of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amphibase.errors import Conflict, InvalidValue, MissingValue
from amphibase.records.model_info import ModelInfo


@contextmanager
def attributes_named(info: ModelInfo[Any]) -> Iterator[None]:
    """Name the attributes of a model in the database's errors, which name columns and constraints;
    those that the caller does not read are not named.

    Raises:
        Conflict, MissingValue, InvalidValue: of the attributes.
    """
    try:
        yield
    except Conflict as error:
        # Policies hide what was there, but not the constraint.
        columns = info.attributes(error.columns) or info.unique_by(error.constraint)
        if not info.hidden.isdisjoint(columns):
            raise Conflict from error
        raise Conflict(columns=columns, constraint=error.constraint) from error
    except MissingValue as error:
        (name,) = info.attributes([error.field or ""])
        raise MissingValue(name) from error
    except InvalidValue as error:
        columns = info.checked_by(error.constraint)
        if not info.hidden.isdisjoint([*columns, error.field]):
            raise InvalidValue from error
        if error.field or not columns:
            raise
        names = ", ".join(columns)
        raise InvalidValue(
            f"{names}: the check {error.constraint} does not hold",
            field=columns[0],
            constraint=error.constraint,
        ) from error
