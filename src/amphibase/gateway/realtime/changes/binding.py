"""A binding: one subscription of a channel to changes, as a client writes it."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from amphibase.gateway.realtime.changes.filters import (
    ChangeFilter,
    InvalidBinding,
    parse_filters,
)
from amphibase.replication.change import Operation, RowChange

ALL = "*"
MAX_ID = 2**27 - 1


@dataclass(frozen=True, slots=True)
class Binding:
    """What changes a client wants.

    Attributes:
        event: an operation, or `*`.
        schema, table: names, or `*`.
        columns: those that it wants beside the primary key, which may be none; None for all.
    """

    id: int
    event: str
    schema: str
    table: str
    filters: tuple[ChangeFilter, ...]
    columns: tuple[str, ...] | None

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read what a client wants. Raises InvalidBinding."""
        written = orjson.dumps(dict(content)).replace(b"\\\\", b"")
        if b"\\u0000" in written:  # which no text of Postgres has
            raise InvalidBinding("Error parsing params: they have a NUL character")
        schema, table = content.get("schema"), content.get("table")
        columns, text = content.get("select"), content.get("filter")
        if isinstance(columns, str):
            raise InvalidBinding(
                "Error parsing `select` params: expected a list of column name strings, "
                'e.g. select: ["col1", "col2"]'
            )
        are_texts = all(isinstance(each, str | None) for each in (schema, table, text))
        if not (schema or table) or not are_texts:
            raise InvalidBinding(
                "No subscription params provided. Please provide at least a `schema` or `table` "
                f"to subscribe to: {_inspected(content)}"
            )
        event = str(content.get("event") or ALL).upper()
        binding = cls(
            binding_id(content),
            event if event in set(Operation) else ALL,
            str(schema or "public"),
            str(table or ALL),
            parse_filters(text),
            tuple(each for each in columns if isinstance(each, str))
            if isinstance(columns, list)
            else None,
        )
        if binding.is_wildcard and binding.columns is not None:
            raise InvalidBinding(
                "Column selection is not supported for wildcard subscriptions. Provide an explicit "
                "schema and table name."
            )
        return binding

    @property
    def is_wildcard(self) -> bool:
        return ALL in (self.schema, self.table)

    def matches(self, change: RowChange) -> bool:
        """Return whether a change is of its operation and its table."""
        relation = change.relation
        return (
            self.event in (ALL, change.operation)
            and self.schema in (ALL, relation.schema)
            and self.table in (ALL, relation.table)
        )

    def describe(self) -> str:
        """Return the parameters, for an error."""
        filters = [
            _inspected([each.column, each.operator, each.text, each.is_negated])
            for each in self.filters
        ]
        written = ", ".join(f"{{{each[1:-1]}}}" for each in filters)
        columns = None if self.columns is None else [*self.columns]
        return (
            f"[event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: [{written}], select: {_inspected(columns)}]"
        )


def _inspected(value: Any) -> str:
    """Return a value of JSON as upstream's language, Elixir, writes it."""
    match value:
        case None:
            return "nil"
        case Mapping():
            members = (f"{_inspected(key)} => {_inspected(value[key])}" for key in sorted(value))
            return f"%{{{', '.join(members)}}}"
        case list():
            return f"[{', '.join(map(_inspected, value))}]"
    return orjson.dumps(value).decode()


def binding_id(content: Mapping[str, Any]) -> int:
    """Return the id of a binding; equal ones have the same. Clients take 0 for none."""
    text = orjson.dumps(dict(content), option=orjson.OPT_SORT_KEYS)
    return zlib.crc32(text) % MAX_ID + 1
