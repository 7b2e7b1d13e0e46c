"""What an upsert goes by, and what it changes of the row that is there."""

from collections.abc import Mapping, Sequence
from typing import Any

from amphibase.access import OWNER_COLUMN
from amphibase.errors import InvalidRequest, InvalidValue, NotSupported
from amphibase.records.arguments import check_list
from amphibase.records.model_info import ModelInfo


def unique_names(info: ModelInfo[Any], on: Sequence[Any]) -> Sequence[str]:
    """Return the attributes that an upsert goes by; the primary key by default.

    Raises:
        InvalidValue: there is no such attribute.
        InvalidRequest: nothing keeps them unique.
        NotSupported: the caller may not read one.
    """
    names = [getattr(each, "key", each) for each in check_list("on", on)]
    names = names or [*info.key_names]
    for name in names:
        if name not in info.column_of:
            message = f"{name}: {info.model.__name__} has no such column"
            raise InvalidValue(message, field=name)
        if name in info.hidden:
            raise NotSupported(f"{info.model.__name__}.{name} is read by the service alone")
    if info.unique(names) is None:
        raise InvalidRequest(f"on: nothing keeps {', '.join(names)} unique")
    return names


def changed_names(info: ModelInfo[Any], values: Mapping[str, Any], on: Sequence[str]) -> list[str]:
    """Return the attributes that an upsert changes of the row that is there.

    Args:
        values: what the new row holds.
        on: the attributes that it goes by.
    """
    unchanged = {*on, *info.key_names, OWNER_COLUMN, "created_at", *info.not_changed}
    return [name for name in values if name not in unchanged]
