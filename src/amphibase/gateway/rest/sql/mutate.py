"""Writes the statements that change rows: each takes its values from the body, which is JSON."""

from amphibase.gateway.rest.plan.types import Plan, Write
from amphibase.gateway.rest.schema.catalog import Column
from amphibase.gateway.rest.sql.conditions import Frame, condition
from amphibase.gateway.rest.sql.fragments import (
    Body,
    Constant,
    Parameters,
    listed,
    qualified,
    quoted,
)
from amphibase.gateway.rest.sql.select import where

_ROW = '"_w"'
_PAYLOAD = '"_p"'
_ELEMENT = '"_e"."row"'
_COUNTER = "nullif(current_setting('amphibase.inserted', true), '')"

INSERTED = f"{_COUNTER}::bigint"
"""How many rows an upsert inserted, not updated; to be read after it."""


def write_change(plan: Plan, parameters: Parameters) -> str:
    """The INSERT, UPDATE or DELETE, which returns what the answer is made of."""
    write = plan.write
    assert write is not None
    table = f"{qualified(write.table.name)} AS {_ROW}"
    match plan.demand.action:
        case "delete":
            text = f"DELETE FROM {table}{where(_conditions(write, _ROW, parameters))}"
        case "update" if not write.columns:
            return f"SELECT {_returned(plan, write)} FROM {table} WHERE false"
        case "update":
            text = f"UPDATE {table}{_changes(plan, write, parameters)}"
        case _:
            text = f"INSERT INTO {table}{_rows(plan, write, parameters)}"
    return f"{text} RETURNING {_returned(plan, write)}"


def counts_inserts(plan: Plan) -> bool:
    """Whether the statement tells the rows it inserted from those it updated."""
    write = plan.write
    return write is not None and bool(write.conflict and write.columns) and not _ignores(plan)


def _ignores(plan: Plan) -> bool:
    return plan.demand.action == "insert" and plan.demand.resolution == "ignore"


def _changes(plan: Plan, write: Write, parameters: Parameters) -> str:
    """What follows UPDATE: the first of the body's rows is what others become."""
    values, payload = _payload(plan, write, parameters)
    names = [quoted(column.name) for column in write.columns]
    changes = ", ".join(f"{name} = {_PAYLOAD}.{name}" for name in names)
    named = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
    conditions = where(_conditions(write, _ROW, parameters))
    return f" SET {changes} FROM (SELECT {named} FROM {payload} LIMIT 1) AS {_PAYLOAD}{conditions}"


def _rows(plan: Plan, write: Write, parameters: Parameters) -> str:
    """What follows INSERT INTO."""
    values, payload = _payload(plan, write, parameters)
    names = f" ({listed(column.name for column in write.columns)})" if write.columns else ""
    counts = counts_inserts(plan)
    conditions = []
    if plan.demand.action == "put":
        conditions = _conditions(write, _PAYLOAD, parameters)
    if counts:
        conditions.append(_count("+ 1"))
    text = f"{names} SELECT {', '.join(values)} FROM {payload}{where(conditions)}"
    if not write.conflict:
        return text
    text += f" ON CONFLICT ({listed(write.conflict)}) DO"
    if not counts:
        return f"{text} NOTHING"
    changes = ", ".join(
        f"{name} = EXCLUDED.{name}" for name in (quoted(column.name) for column in write.columns)
    )
    return f"{text} UPDATE SET {changes} WHERE {_count('- 1')}"


def _count(step: str) -> str:
    """A condition that always holds, and counts how often it is asked."""
    number = f"(coalesce({_COUNTER}, '0')::bigint {step})::text"
    return f"set_config('amphibase.inserted', {number}, true) IS NOT NULL"


def _payload(plan: Plan, write: Write, parameters: Parameters) -> tuple[list[str], str]:
    """The values of the columns, and the rows of the body that they are taken from."""
    body = f"{parameters(Body())}::json"
    rows = f"CASE json_typeof({body}) WHEN 'array' THEN {body} ELSE json_build_array({body}) END"
    columns = {column.name: column for column in write.columns}
    if plan.demand.action == "put":  # its conditions are on the body's own key
        columns |= {name: write.table.columns[name] for name in write.conflict}
    if not columns:
        return [], f"json_array_elements({rows}) AS {_PAYLOAD}"
    types = ", ".join(
        f"{quoted(name)} {'json' if name in write.from_json else column.type}"
        for name, column in columns.items()
    )
    values = [_value(column, write) for column in write.columns]
    if not plan.demand.missing_default:
        return values, f"json_to_recordset({rows}) AS {_PAYLOAD}({types})"
    values = [
        _or_default(value, column, parameters)
        for value, column in zip(values, write.columns, strict=True)
    ]
    return values, (
        f'json_array_elements({rows}) AS "_e"("row") '
        f"CROSS JOIN LATERAL json_to_record({_ELEMENT}) AS {_PAYLOAD}({types})"
    )


def _value(column: Column, write: Write) -> str:
    value = f"{_PAYLOAD}.{quoted(column.name)}"
    reader = write.from_json.get(column.name)
    return f"{qualified(reader)}({value})" if reader else value


def _or_default(value: str, column: Column, parameters: Parameters) -> str:
    if column.default is None:
        return value
    key = f"{parameters(Constant(column.name))}::text"
    return f"CASE WHEN ({_ELEMENT} -> {key}) IS NULL THEN {column.default} ELSE {value} END"


def _conditions(write: Write, alias: str, parameters: Parameters) -> list[str]:
    frame = Frame(alias, f"{alias}.*")
    return [condition(each, frame, parameters) for each in write.conditions]


def _returned(plan: Plan, write: Write) -> str:
    if write.returned is None:
        return f"{_ROW}.*"
    if not write.returned:
        return 'true AS "_changed"'
    as_text = "::text" if plan.demand.returning == "headers-only" else ""
    names = (quoted(name) for name in write.returned)
    return ", ".join(f"{_ROW}.{name}{as_text} AS {name}" for name in names)
