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
        columns: those that it wants beside the primary key; None for all.
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
        if not (schema or table):
            raise InvalidBinding(
                "No subscription params provided. Please provide at least a `schema` or `table` "
                f"to subscribe to: {orjson.dumps(dict(content)).decode()}"
            )
        columns = content.get("select")
        if columns is not None and not (
            isinstance(columns, list) and all(isinstance(each, str) for each in columns)
        ):
            raise InvalidBinding(
                "Error parsing `select` params: expected a list of column name strings, got: "
                f"{columns!r}"
            )
        text = content.get("filter")
        if text is not None and not isinstance(text, str):
            raise InvalidBinding(f"Error parsing `filter` params: expected a text, got: {text!r}")
        event = str(content.get("event") or ALL).upper()
        binding = cls(
            binding_id(content),
            event if event in set(Operation) else ALL,
            str(schema or "public"),
            str(table or ALL),
            parse_filters(text),
            tuple(columns) if columns else None,
        )
        if binding.is_wildcard and binding.columns:
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
            f"{each.column}={'not.' if each.is_negated else ''}{each.operator}"
            for each in self.filters
        ]
        return (
            f"[event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: [{', '.join(filters)}], select: "
            f"{'nil' if self.columns is None else list(self.columns)}]"
        )


def binding_id(content: Mapping[str, Any]) -> int:
    """Return the id of a binding; equal ones have the same. Clients take 0 for none."""
    text = orjson.dumps(dict(content), option=orjson.OPT_SORT_KEYS)
    return zlib.crc32(text) % MAX_ID + 1
