"""Writes the rows of a model as JSON: the one place where rows become bytes."""

import math
from collections import OrderedDict
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from fastapi import Response
from pydantic import TypeAdapter
from sqlalchemy import inspect as inspect_model
from typing_extensions import TypedDict

from amphibase.backend import Page
from amphibase.errors import NotSupported, UnreadableValue
from amphibase.models import Versioned
from amphibase.records.fields import Field, fields_of

JSON = "application/json"

MAX_RECENT, MAX_RECENT_BYTES = 500, 1024 * 1024
"""How many rows that streams share are kept as JSON, and how large they are together."""


class RowSerializer:
    """Writes rows as JSON.

    Raises:
        NotSupported: the model's key has several columns.
    """

    def __init__(self, model: type[Any]) -> None:
        shown = [field for field in fields_of(model).values() if not field.hidden]
        self.names = tuple(field.key for field in shown)
        self._shown = {*self.names}
        self._key = key_of(model).key
        self._floats = [field.key for field in shown if issubclass(field.python_type, float)]
        self._key_type: TypeAdapter[Any] = TypeAdapter(key_of(model).output)
        self._versioned = issubclass(model, Versioned)
        # A typed dict is written from what an object holds without making a model of it first.
        row: Any = TypedDict(  # type: ignore[misc]
            "row",
            {field.key: field.output | None if field.nullable else field.output for field in shown},
        )
        page: Any = TypedDict("page", {"items": list[row], "next_cursor": str | None})
        self._row: TypeAdapter[Any] = TypeAdapter(row)
        self._page: TypeAdapter[Any] = TypeAdapter(page)
        self._recent: OrderedDict[int, tuple[Any, bytes]] = OrderedDict()
        self._recent_bytes = 0

    def row(self, row: Any) -> bytes:
        """Return one row as JSON, if it is not that already."""
        if isinstance(row, str):
            return row.encode()
        return self._row.dump_json(self._values(row), warnings=False)

    def shared_row(self, row: Any) -> bytes:
        """Return one row as JSON, at once if it was one of the last: many streams send the same."""
        recent = self._recent.get(id(row))  # which no other object has while this one is kept
        if recent is not None:
            return recent[1]
        written = self.row(row)
        self._recent[id(row)] = row, written
        self._recent_bytes += len(written)
        while len(self._recent) > 1 and (
            len(self._recent) > MAX_RECENT or self._recent_bytes > MAX_RECENT_BYTES
        ):
            _, (_, oldest) = self._recent.popitem(last=False)
            self._recent_bytes -= len(oldest)
        return written

    def page(self, page: Page[Any]) -> bytes:
        """Return a part of a list as JSON."""
        if page.items and isinstance(page.items[0], str):
            cursor = "null" if page.next_cursor is None else f'"{page.next_cursor}"'
            # Joined as bytes: as text, a large page would be in memory once more.
            start, end = b'{"items":[', f'],"next_cursor":{cursor}}}'.encode()
            return start + b",".join([item.encode() for item in page.items]) + end
        items = [self._values(row) for row in page.items]
        content = {"items": items, "next_cursor": page.next_cursor}
        return self._page.dump_json(content, warnings=False)

    def response(self, row: Any, status: int = 200) -> Response:
        """Return one row as a response, with its version."""
        response = Response(self.row(row), status, media_type=JSON)
        if self._versioned:
            response.headers["ETag"] = f'"{row.version}"'
        return response

    def can_write(self, row: Any) -> bool:
        """Return whether an object holds every column that is shown. One does not that its caller
        has added and may not see, if the database filled columns in."""
        return bool(row.__dict__.keys() >= self._shown)

    def key_object(self, key: Any) -> bytes:
        """Return a JSON object of the primary key alone."""
        return b'{"%s":%s}' % (self._key.encode(), self._key_type.dump_json(key))

    def path_key(self, row: Any) -> str:
        """Return the row's key, as it stands in a path."""
        key = self._key_type.dump_python(getattr(row, self._key), mode="json")
        return quote(str(key), safe="")

    def _values(self, row: Any) -> dict[str, Any]:
        held = row.__dict__
        for name in self._floats:
            value = held[name]
            if value is not None and not math.isfinite(value):
                raise UnreadableValue(
                    f"{name} of {type(row).__name__} {held[self._key]} holds {value}, which JSON "
                    "cannot"
                )
        return {key: held[key] for key in self.names}


def serializer_of(model: type[Any]) -> RowSerializer:
    """Return the serializer of a model, which all of its streams share."""
    serializer = _SERIALIZERS.get(model)
    if serializer is None:
        serializer = _SERIALIZERS[model] = RowSerializer(model)
    return serializer


_SERIALIZERS = WeakKeyDictionary[type[Any], RowSerializer]()


def key_of(model: type[Any]) -> Field:
    """Return the field of the primary key. Raises NotSupported for a key of several columns."""
    columns = inspect_model(model).primary_key
    if len(columns) > 1:
        names = ", ".join(column.name for column in columns)
        raise NotSupported(
            f"{model.__name__} has a key of several columns ({names}); a router needs a key of "
            "one. Write its routes with db.repository(), whose methods take the key as a tuple"
        )
    return next(field for field in fields_of(model).values() if field.column is columns[0])
