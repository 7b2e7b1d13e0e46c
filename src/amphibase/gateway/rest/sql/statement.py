"""Writes a plan as one statement, whose one row is the response: Postgres builds the JSON.

The columns are those of `ResultColumns`, in its order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from amphibase.database.statement import Call, Statement
from amphibase.gateway.rest.plan.types import SCALAR, ActionPlan, Explain
from amphibase.gateway.rest.sql.call import compile_call
from amphibase.gateway.rest.sql.fragments import (
    Bound,
    StatementParameter,
    StatementParameters,
    qualified,
    quoted,
)
from amphibase.gateway.rest.sql.mutate import INSERTED, compile_mutation, counts_inserts
from amphibase.gateway.rest.sql.select import SOURCE, SelectCompiler
from amphibase.records.filters.tree import Value

_ROWS = '"_t"'

MAX_BODY_BYTES = 8 * 1024 * 1024
"""The largest list that comes as one value, which takes the memory several times."""

CURSOR = "amphibase_rows"


class ResultColumns(NamedTuple):
    """The columns of a statement's one row, each as SQL; without a value they are NULL.

    Attributes:
        total: how many rows there are without limit and offset, if the request counts them.
        body: NULL of a list that is larger than `MAX_BODY_BYTES`; `compile_cursor` reads it.
        page: how many rows the body has or, of a mutate, were changed.
        location: of one inserted row, its primary key as a JSON object of strings.
        headers, status: what functions set as `response.headers` and `response.status`.
        inserted: how many of an upsert's rows are new.
        is_bytes: whether the body is a bytea.
    """

    total: str
    page: str
    body: str
    location: str
    headers: str
    status: str
    inserted: str
    is_bytes: str


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement, and where the values of its parameters come from."""

    statement: Statement
    parameters: tuple[StatementParameter, ...]

    def bind(self, values: Sequence[Value], body: Bound = None) -> Call:
        """Return the statement with a request's values.

        Args:
            body: as JSON, or as it is where a function takes it whole.
        """
        return Call(self.statement, [each.read(values, body) for each in self.parameters])


def compile_statement(plan: ActionPlan) -> CompiledStatement:
    """Compile a plan to the statement whose one row has the `ResultColumns`."""
    parameters = StatementParameters()
    source = ""
    if plan.mutate is not None:
        source = f"WITH {SOURCE} AS ({compile_mutation(plan, parameters)}) "
    elif plan.call is not None:
        source = f"WITH {SOURCE} AS ({compile_call(plan, parameters)}) "
    if plan.mutate is not None and plan.key.returning != "representation":
        rows = f"{SOURCE} AS {_ROWS}"
    else:
        makes_json = plan.key.media.shape in ("array", "object")
        rows = f"({SelectCompiler(parameters, makes_json=makes_json).rows(plan.read)}) AS {_ROWS}"
    body, is_bytes = _body(plan)
    columns = ResultColumns(
        total=_total(plan, parameters),
        page="count(*)",
        body=body,
        location=_location(plan),
        headers="nullif(current_setting('response.headers', true), '')",
        status="nullif(current_setting('response.status', true), '')",
        inserted=INSERTED if counts_inserts(plan) else "NULL",
        is_bytes=is_bytes,
    )
    sql = f"{source}SELECT {', '.join(columns)} FROM {rows}"
    if plan.key.media.explain is not None:
        sql = f"{_explain(plan.key.media.explain)} {sql}"
    return CompiledStatement(Statement(sql), parameters.all())


def has_cursor(plan: ActionPlan) -> bool:
    """Return whether the rows may be read again, one by one, as the elements of a JSON array.

    They are those of a table, or of a function that changes nothing.
    """
    media = plan.key.media
    if media.shape != "array" or media.explain is not None:
        return False
    if plan.call is None:
        return plan.key.action == "read"
    function = plan.call.function
    is_rows = function.returns.is_composite and function.returns.is_set
    return is_rows and function.volatility != "volatile"


def compile_cursor(plan: ActionPlan) -> CompiledStatement:
    """Compile the cursor `CURSOR`, whose rows are the elements of the body, as text."""
    parameters = StatementParameters()
    source = "" if plan.call is None else f"WITH {SOURCE} AS ({compile_call(plan, parameters)}) "
    rows = SelectCompiler(parameters, makes_json=True).rows(plan.read)
    element = f"row_to_json({_ROWS}.*)"
    if plan.key.media.strip_nulls:
        element = f"json_strip_nulls({element})"
    select = f"{source}SELECT {element}::text FROM ({rows}) AS {_ROWS}"
    sql = f"DECLARE {CURSOR} NO SCROLL CURSOR FOR {select}"
    return CompiledStatement(Statement(sql), parameters.all())


def separator_of(plan: ActionPlan) -> bytes:
    """Return what json_agg() or json_strip_nulls() writes between the elements of the body."""
    return b"," if plan.key.media.strip_nulls else b", \n "


def compile_estimate(plan: ActionPlan) -> CompiledStatement | None:
    """Compile the statement that explains how many rows Postgres expects, if the plan counts so.

    Its result is the JSON of EXPLAIN. Of `count=estimated` it matters when the total is over the
    most rows that the settings allow.
    """
    if plan.key.count not in ("planned", "estimated") or plan.key.action != "read":
        return None
    parameters = StatementParameters()
    matches = SelectCompiler(parameters).matches(plan.read)
    return CompiledStatement(Statement(f"EXPLAIN (FORMAT JSON) {matches}"), parameters.all())


def _total(plan: ActionPlan, parameters: StatementParameters) -> str:
    count, root = plan.key.count, plan.read
    if count is None or count == "planned":  # which is for reads alone, and another statement's
        return "NULL"
    compiler = SelectCompiler(parameters)
    if plan.mutate is not None or not (root.is_cut or compiler.is_grouped(root)):
        return "count(*)"
    matches = compiler.matches(root)
    if plan.call is None and count == "estimated" and plan.max_rows is not None:
        matches += f" LIMIT {plan.max_rows + 1}"
    return f'(SELECT count(*) FROM ({matches}) AS "_m")'


def _location(plan: ActionPlan) -> str:
    key, mutate = plan.key, plan.mutate
    if mutate is None or key.action != "insert" or key.returning != "headers-only":
        return "NULL"
    if not mutate.returned:
        return "NULL"
    return f"CASE count(*) WHEN 1 THEN min(row_to_json({_ROWS}.*)::text) END"


def _body(plan: ActionPlan) -> tuple[str, str]:
    """The body, and whether it is a bytea."""
    media = plan.key.media
    returns = plan.call.function.returns if plan.call else None
    if plan.mutate is not None and plan.key.returning != "representation":
        return "NULL", "NULL"
    if media.shape == "none" or (returns is not None and returns.is_void):
        return "NULL", "NULL"
    if media.shape == "handler" and media.handler is not None:
        row = f"{_ROWS}.*"
        if returns is not None and not (returns.is_composite or returns.is_set):
            row = f"{_ROWS}.{quoted(SCALAR)}"
        elif media.handler.target is not None:
            row = f"({row})::{qualified(media.handler.target)}"
        value = f"{qualified(media.handler.function)}({row})"
        return value, _is_bytes(value)
    if plan.call is not None and returns is not None and not returns.is_composite:
        value = f"{_ROWS}.{quoted(SCALAR)}"
        if media.shape == "scalar":
            first = f"(array_agg({value}))[1]"
            return first, _is_bytes(first)
        json, one = f"to_json({value})", not returns.is_set
    else:
        value, one = f"{_ROWS}.*", returns is not None and not returns.is_set
        json = f"row_to_json({value})"
    match media.shape:
        case "csv":
            return _csv(), "NULL"
        case "geojson":
            features = f"coalesce(json_agg(ST_AsGeoJSON({_ROWS}.*)::json), '[]')"
            return (
                f"json_build_object('type', 'FeatureCollection', 'features', {features})::text",
                "NULL",
            )
    if media.strip_nulls:
        json = f"json_strip_nulls({json})"
    if one or media.shape == "object":
        # Of more than one row this is no JSON, but then the response is an error.
        return f"coalesce(string_agg({json}::text, ','), 'null')", "NULL"
    array = f"json_agg({value})"
    if media.strip_nulls:
        array = f"json_strip_nulls({array})"
    body = f"coalesce({array}::text, '[]')"
    if has_cursor(plan):
        body = f"CASE WHEN pg_column_size({array}) > {MAX_BODY_BYTES} THEN NULL ELSE {body} END"
    return body, "NULL"


def _is_bytes(value: str) -> str:
    return (
        "(SELECT 'bytea'::regtype IN (oid, typbasetype) FROM pg_catalog.pg_type "
        f"WHERE oid = pg_typeof({value}))"
    )


def _csv() -> str:
    """A line of the names, and a line for each row, as Postgres writes rows without parentheses."""
    names = f"(SELECT string_agg(n, ',') FROM json_object_keys(json_agg({_ROWS}.*) -> 0) AS n)"
    row = f"substr({_ROWS}::text, 2, length({_ROWS}::text) - 2)"
    return f"coalesce({names}, '') || E'\\n' || coalesce(string_agg({row}, E'\\n'), '')"


def _explain(explain: Explain) -> str:
    words = [option.upper() for option in explain.options]
    return f"EXPLAIN ({', '.join([*words, f'FORMAT {explain.format.upper()}'])})"
