"""Rows of one model as JSON, and back."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from itertools import repeat
from operator import is_
from typing import Any, NoReturn
from uuid import UUID

import httpx
import orjson
from sqlalchemy import types

from amphibase.errors import NotSupported, Unavailable, UnreadableValue
from amphibase.records.filters.names import format_name
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.values import Row
from amphibase.supabase.records.dialect import (
    check_supported,
    from_json,
    is_read_as_text,
    is_written_as_it_is,
    plain_from_json,
    stored_type,
    to_json,
)

Record = Mapping[str, Any]
"""A row as a JSON object: values by the names of columns."""


class RowCodec:
    """Reads and writes the rows of a model as JSON objects.

    Attributes:
        select: the columns, as `select=` of a request takes them.

    Raises:
        NotSupported: a column's values do not pass through JSON.
    """

    def __init__(self, info: ModelInfo[Any]) -> None:
        self._info = info
        for name, column in info.column_of.items():
            check_supported(f"{info.model.__name__}.{name}", column.type)
        self.select = ",".join(
            f"{format_name(column.name)}::text" if is_read_as_text(column.type)
            else format_name(column.name)
            for column in info.columns
        )  # fmt: skip
        # A name that was declared is a kind of str, which the quick writer rejects.
        self._readers = [(str(column.name), from_json(column.type)) for column in info.columns]
        self._plain_readers = [plain_from_json(column.type) for column in info.columns]
        self._writers = {
            name: (
                str(column.name),
                None if is_written_as_it_is(column.type) else to_json(column.type),
            )
            for name, column in info.column_of.items()
        }
        # The quick parser makes floats of integers beyond 64 bits.
        self._holds_json = any(
            isinstance(stored_type(column.type), types.JSON) for column in info.columns
        )
        info.unloaded.update({name: _not_computed(info, name) for name in info.computed_names})

    def parse(self, response: httpx.Response) -> list[dict[str, Any]]:
        """Parse a response that is a list of JSON objects. Raises Unavailable."""
        try:
            parsed: list[dict[str, Any]] = (
                json.loads(response.content) if self._holds_json else orjson.loads(response.content)
            )
        except ValueError:
            raise Unavailable("The Supabase project sent a response that is not JSON") from None
        return parsed

    def rows(self, records: Sequence[Record]) -> list[Row]:
        """Return rows in the order of the model's columns.

        Raises:
            UnreadableValue: Python cannot hold a value; names row and column.
        """
        columns: list[Iterable[Any]] = []
        for (name, read), read_plain in zip(self._readers, self._plain_readers, strict=True):
            values = [record[name] for record in records]
            try:
                if read_plain is not None and None not in values:
                    columns.append(_read_all(read_plain, values))
                else:
                    columns.append(values if read is None else [*map(read, values)])
            except (ValueError, TypeError, LookupError, OverflowError, ArithmeticError) as error:
                raise self._unreadable(records) from error
        return [*zip(*columns, strict=True)]

    def write(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON object of values by the names of attributes."""
        record = {}
        for name, value in values.items():
            column, write = self._writers[name]
            record[column] = value if write is None else write(value)
        return record

    def write_all(self, columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
        """Return the JSON objects of rows that come as a list of values for each attribute.

        Args:
            columns: ABSENT where a row has no value.
        """
        written: dict[str, Iterable[Any]] = {}
        is_sparse = False
        for name, values in columns.items():
            column, write = self._writers[name]
            if any(map(is_, values, repeat(ABSENT))):
                is_sparse = True
                written[column] = [
                    value if value is ABSENT or write is None else write(value) for value in values
                ]
            else:
                written[column] = values if write is None else map(write, values)
        records = [
            dict(zip(written, row, strict=True)) for row in zip(*written.values(), strict=True)
        ]
        if not is_sparse:
            return records
        return [
            {name: value for name, value in record.items() if value is not ABSENT}
            for record in records
        ]

    def encode(self, body: Any) -> bytes:
        """Return a body of a request."""
        try:
            return orjson.dumps(body)
        except TypeError:  # of an integer beyond 64 bits, inside JSON
            text = json.dumps(body, default=_text, ensure_ascii=False, separators=(",", ":"))
            return text.encode()

    def _unreadable(self, records: Sequence[Record]) -> UnreadableValue:
        info = self._info
        for record in records:
            for name, (column, read) in zip(info.names, self._readers, strict=True):
                if read is not None and not _is_readable(read, record[column]):
                    key = ", ".join(str(record[each.name]) for each in info.keys)
                    return UnreadableValue(
                        f"{name} of {info.model.__name__} {key} holds a value that cannot be read"
                    )
        return UnreadableValue()


def codec_of(info: ModelInfo[Any]) -> RowCodec:
    """Return the codec of a model, built once a model. Raises NotSupported."""
    if "row codec" not in info.cache:
        info.cache["row codec"] = RowCodec(info)
    codec: RowCodec = info.cache["row codec"]
    return codec


def _read_all(read: Callable[[Any], Any], values: Sequence[Any]) -> Iterable[Any]:
    """Read values, equal ones once where many seem to be, such as the owners of rows."""
    if len(values) > 1 and values[0] == values[-1]:
        known = {value: read(value) for value in {*values}}
        return [known[value] for value in values]
    return [*map(read, values)]


def _text(value: UUID | date) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _is_readable(read: Callable[[Any], Any], value: Any) -> bool:
    try:
        read(value)
    except (ValueError, TypeError, LookupError, OverflowError, ArithmeticError):
        return False
    return True


def _not_computed(info: ModelInfo[Any], name: str) -> Callable[[Any, Any], NoReturn]:
    def raise_not_supported(state: Any, passive: Any) -> NoReturn:
        raise NotSupported(
            f"{info.model.__name__}.{name} is computed by an SQL expression, which the Data API of "
            "Supabase does not take"
        )

    return raise_not_supported
