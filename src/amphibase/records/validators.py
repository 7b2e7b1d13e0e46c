"""The validators of a mapped class (`@validates`, and listeners for `set`) outside its sessions."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm.attributes import instance_dict
from sqlalchemy.sql.elements import ClauseElement

from amphibase.errors import InvalidValue


def validated(model: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for columns of a mapped class as its validators leave them.

    The validators see an object that holds these values alone. SQL expressions are not validated.

    Raises:
        InvalidValue: a validator rejects a value by a ValueError; names the attribute.
    """
    mapper = inspect_model(model)
    instance = mapper.class_manager.new_instance()
    valid = dict(values)
    for name, value in values.items():
        if name in mapper.column_attrs and not isinstance(value, ClauseElement):
            try:
                setattr(instance, name, value)
            except ValueError as error:
                raise InvalidValue(f"{name}: {error}", field=name) from error
            valid[name] = instance_dict(instance)[name]
    return valid


def construct(model: type[Any], values: Mapping[str, Any]) -> Any:
    """Construct an object of a mapped class.

    Raises:
        InvalidValue: a validator rejects a value by a ValueError; names the attribute.
    """
    try:
        return model(**values)
    except ValueError:
        validated(model, values)  # which names the attribute
        raise
