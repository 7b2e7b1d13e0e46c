"""The event that clients receive for a change."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from amphibase.gateway.realtime.changes.filters import INTEGERS
from amphibase.gateway.realtime.changes.tables import RoleTable, TableColumn
from amphibase.replication.change import UNCHANGED, Operation, Row, RowChange

MAX_EVENT_BYTES = 1024 * 1024 - 4096
"""What fits into the largest message that supabase-py takes, 1 MiB, beside topic and ids."""

SMALL_BYTES = 64
"""Of a value that is kept where a record is too large."""

NUMBERS = INTEGERS | {"float4", "float8", "numeric"}

NO_KEY = "Error 400: Bad Request, no primary key"
NOT_GRANTED = "Error 401: Unauthorized"
TOO_LARGE = "Error 413: Payload Too Large"

Composed = Mapping[tuple[str, str], str]
"""JSON of values that the database writes, by the type's SQL and the value's text."""


def new_row(change: RowChange) -> Row | None:
    """Return the row as it is now, with what the old one knows of values that are not sent."""
    if change.new is None:
        return None
    old = change.old or {}
    row = {
        name: old.get(name, UNCHANGED) if value is UNCHANGED else value
        for name, value in change.new.items()
    }
    return {name: value for name, value in row.items() if value is not UNCHANGED}


def old_row(change: RowChange, table: RoleTable) -> Row | None:
    """Return what is shown of the row as it was: under row level security its key alone."""
    if change.operation is Operation.INSERT:
        return None
    old = change.old
    if old is None:
        old = {each: (change.new or {}).get(each) for each in change.relation.identity}
    if table.is_restricted:
        keys = {column.name for column in table.key}
        old = {name: value for name, value in old.items() if name in keys}
    return old


def write_event(
    change: RowChange, table: RoleTable, selected: Sequence[str] | None, composed: Composed
) -> bytes:
    """Write the `data` of an event as JSON, for those of one role.

    Args:
        selected: the columns that are wanted beside the key; None for all.
    """
    data: dict[str, Any] = {
        "schema": change.relation.schema,
        "table": change.relation.table,
        "commit_timestamp": _timestamp(change),
        "type": change.operation,
        "columns": [],
        "errors": None,
    }
    error = _error(change, table)
    if error is not None:
        data |= {"record": {}, "errors": [error]}
        return orjson.dumps(data)
    columns = [
        column
        for column in table.columns.values()
        if column.is_selectable and (selected is None or column.is_key or column.name in selected)
    ]
    records = {
        name: _record(row, columns, composed)
        for name, row in (("record", new_row(change)), ("old_record", old_row(change, table)))
        if row is not None
    }
    data["columns"] = [{"name": column.name, "type": column.type} for column in columns]
    written = orjson.dumps(data | records)
    if len(written) > MAX_EVENT_BYTES:
        data["errors"] = [TOO_LARGE]
        records = {name: _small(record) for name, record in records.items()}
        written = orjson.dumps(data | records)
    return written


def write_value(value: str | None, column: TableColumn, composed: Composed) -> Any:
    """Return a value for `orjson`, as Supabase Realtime shows it."""
    if value is None:
        return None
    if column.is_composed:
        return orjson.Fragment(composed[column.sql_type, value])
    if column.type in NUMBERS:
        is_finite = value.lstrip("-")[:1].isdigit()
        return orjson.Fragment(value) if is_finite else None
    match column.type:
        case "bool":
            return value == "t"
        case "json" | "jsonb":
            return orjson.Fragment(value)
        case "timestamp":
            return value.replace(" ", "T")
        case "timestamptz":
            return value.replace(" ", "T").replace("+00", "+00:00")
        case "bytea":
            return value.removeprefix("\\x")
    return value


def _record(row: Row, columns: Sequence[TableColumn], composed: Composed) -> dict[str, Any]:
    record = {}
    for column in columns:
        value = row.get(column.name, UNCHANGED)
        if value is not UNCHANGED:
            record[column.name] = write_value(value, column, composed)
    return record


def _small(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in record.items() if len(orjson.dumps(value)) <= SMALL_BYTES
    }


def _error(change: RowChange, table: RoleTable) -> str | None:
    if change.operation is Operation.DELETE:
        return None
    if not table.key:
        return NO_KEY
    return None if all(column.is_selectable for column in table.key) else NOT_GRANTED


def _timestamp(change: RowChange) -> str:
    text = change.committed_at.isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
