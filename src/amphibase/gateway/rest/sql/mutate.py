"""Writes the statements that change rows: each takes its values from the body, which is JSON."""

from amphibase.gateway.rest.plan.types import ActionPlan, MutatePlan
from amphibase.gateway.rest.schema.catalog import Column
from amphibase.gateway.rest.sql.conditions import RowAlias, compile_condition
from amphibase.gateway.rest.sql.fragments import (
    BodyParameter,
    ConstantParameter,
    StatementParameters,
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


def compile_mutation(plan: ActionPlan, parameters: StatementParameters) -> str:
    """Compile the INSERT, UPDATE or DELETE, which returns the columns of the response."""
    mutate = plan.mutate
    assert mutate is not None
    table = f"{qualified(mutate.table.name)} AS {_ROW}"
    match plan.key.action:
        case "delete":
            text = f"DELETE FROM {table}{where(_conditions(mutate, _ROW, parameters))}"
        case "update" if not mutate.columns:
            return f"SELECT {_returned(plan, mutate)} FROM {table} WHERE false"
        case "update":
            text = f"UPDATE {table}{_changes(plan, mutate, parameters)}"
        case _:
            text = f"INSERT INTO {table}{_rows(plan, mutate, parameters)}"
    return f"{text} RETURNING {_returned(plan, mutate)}"


def counts_inserts(plan: ActionPlan) -> bool:
    """Return whether the statement counts the rows it inserted apart from those it updated."""
    mutate = plan.mutate
    return mutate is not None and bool(mutate.conflict and mutate.columns) and not _ignores(plan)


def _ignores(plan: ActionPlan) -> bool:
    return plan.key.action == "insert" and plan.key.resolution == "ignore"


def _changes(plan: ActionPlan, mutate: MutatePlan, parameters: StatementParameters) -> str:
    """What follows UPDATE: the first of the body's rows is what others become."""
    values, payload = _payload(plan, mutate, parameters)
    names = [quoted(column.name) for column in mutate.columns]
    changes = ", ".join(f"{name} = {_PAYLOAD}.{name}" for name in names)
    named = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
    conditions = where(_conditions(mutate, _ROW, parameters))
    return f" SET {changes} FROM (SELECT {named} FROM {payload} LIMIT 1) AS {_PAYLOAD}{conditions}"


def _rows(plan: ActionPlan, mutate: MutatePlan, parameters: StatementParameters) -> str:
    """What follows INSERT INTO."""
    values, payload = _payload(plan, mutate, parameters)
    names = f" ({listed(column.name for column in mutate.columns)})" if mutate.columns else ""
    counts = counts_inserts(plan)
    conditions = []
    if plan.key.action == "put":
        conditions = _conditions(mutate, _PAYLOAD, parameters)
    if counts:
        conditions.append(_count("+ 1"))
    text = f"{names} SELECT {', '.join(values)} FROM {payload}{where(conditions)}"
    if not mutate.conflict:
        return text
    text += f" ON CONFLICT ({listed(mutate.conflict)}) DO"
    if not counts:
        return f"{text} NOTHING"
    changes = ", ".join(
        f"{name} = EXCLUDED.{name}" for name in (quoted(column.name) for column in mutate.columns)
    )
    return f"{text} UPDATE SET {changes} WHERE {_count('- 1')}"


def _count(step: str) -> str:
    """A condition that always holds, and counts how often it is evaluated."""
    number = f"(coalesce({_COUNTER}, '0')::bigint {step})::text"
    return f"set_config('amphibase.inserted', {number}, true) IS NOT NULL"


def _payload(
    plan: ActionPlan, mutate: MutatePlan, parameters: StatementParameters
) -> tuple[list[str], str]:
    """The values of the columns, and the rows of the body that they are taken from."""
    body = f"{parameters(BodyParameter())}::json"
    rows = f"CASE json_typeof({body}) WHEN 'array' THEN {body} ELSE json_build_array({body}) END"
    columns = {column.name: column for column in mutate.columns}
    if plan.key.action == "put":  # its conditions are on the body's own key
        columns |= {name: mutate.table.columns[name] for name in mutate.conflict}
    if not columns:
        return [], f"json_array_elements({rows}) AS {_PAYLOAD}"
    types = ", ".join(
        f"{quoted(name)} {'json' if name in mutate.from_json else column.type}"
        for name, column in columns.items()
    )
    values = [_value(column, mutate) for column in mutate.columns]
    if not plan.key.missing_default:
        return values, f"json_to_recordset({rows}) AS {_PAYLOAD}({types})"
    values = [
        _or_default(value, column, parameters)
        for value, column in zip(values, mutate.columns, strict=True)
    ]
    return values, (
        f'json_array_elements({rows}) AS "_e"("row") '
        f"CROSS JOIN LATERAL json_to_record({_ELEMENT}) AS {_PAYLOAD}({types})"
    )


def _value(column: Column, mutate: MutatePlan) -> str:
    value = f"{_PAYLOAD}.{quoted(column.name)}"
    reader = mutate.from_json.get(column.name)
    return f"{qualified(reader)}({value})" if reader else value


def _or_default(value: str, column: Column, parameters: StatementParameters) -> str:
    if column.default is None:
        return value
    key = f"{parameters(ConstantParameter(column.name))}::text"
    return f"CASE WHEN ({_ELEMENT} -> {key}) IS NULL THEN {column.default} ELSE {value} END"


def _conditions(mutate: MutatePlan, alias: str, parameters: StatementParameters) -> list[str]:
    row = RowAlias(alias, f"{alias}.*")
    return [compile_condition(each, row, parameters) for each in mutate.conditions]


def _returned(plan: ActionPlan, mutate: MutatePlan) -> str:
    if mutate.returned is None:
        return f"{_ROW}.*"
    if not mutate.returned:
        return 'true AS "_changed"'
    as_text = "::text" if plan.key.returning == "headers-only" else ""
    names = (quoted(name) for name in mutate.returned)
    return ", ".join(f"{_ROW}.{name}{as_text} AS {name}" for name in names)
