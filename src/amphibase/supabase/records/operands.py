"""Values that a column is compared with, as text of a query string."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import types
from sqlalchemy.types import TypeEngine

from amphibase.errors import InvalidValue
from amphibase.records.values import operand_checker, reject
from amphibase.supabase.records.dialect import stored_type, to_json

UNFITTING = (ValueError, TypeError, AttributeError, LookupError, OverflowError, ArithmeticError)
"""What types of SQLAlchemy raise of a value that is none of theirs."""


def operand(name: str, type_: TypeEngine[Any], value: Any) -> str:
    """Return a value of a type as text that Postgres reads as that type.

    Args:
        name: of the column, for errors.

    Raises:
        InvalidValue: the value is none of the type's.
    """
    check, process = operand_checker(type_), to_json(type_)
    rejection = None if check is None else check(value)
    if rejection is not None:
        reject(name, value, rejection)
    try:
        converted = value if process is None else process(value)
    except UNFITTING:
        raise InvalidValue(f"{name}: not a value of the column's type", field=name) from None
    stored = stored_type(type_)
    if isinstance(stored, types.JSON):
        return json.dumps(converted, ensure_ascii=False)
    if isinstance(stored, types.ARRAY) or isinstance(converted, list | tuple):
        return array(converted)
    return _text(converted)


def array(items: Sequence[Any]) -> str:
    """Return an array as Postgres writes it: `{"a","b"}`."""
    return f"{{{','.join(map(_item, items))}}}"


def _item(item: Any) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, list | tuple):
        return array(item)
    escaped = _text(item).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
