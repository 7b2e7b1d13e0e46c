"""Writes a plan as one statement, whose one row is the answer: Postgres builds the JSON.

The columns are those of `Columns`, in its order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from amphibase.database.connection import Call, Statement
from amphibase.gateway.rest.plan.types import Explain, Plan
from amphibase.gateway.rest.request.query import Value
from amphibase.gateway.rest.sql.call import write_call
from amphibase.gateway.rest.sql.fragments import Bound, Parameter, Parameters, qualified, quoted
from amphibase.gateway.rest.sql.mutate import INSERTED, counts_inserts, write_change
from amphibase.gateway.rest.sql.select import SOURCE, TreeWriter

_ROWS = '"_t"'


class Columns(NamedTuple):
    """The columns of a statement's one row, each as SQL; without a value they are NULL.

    Attributes:
        total: how many rows there are without limit and offset, if that was asked for.
        page: how many rows the body has or, of a write, were changed.
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
    parameters: tuple[Parameter, ...]

    def bind(self, values: Sequence[Value], body: Bound = None) -> Call:
        """Return the statement with a request's values.

        Args:
            body: as JSON, or as it is where a function takes it whole.
        """
        return Call(self.statement, [each.read(values, body) for each in self.parameters])


def compile_statement(plan: Plan) -> CompiledStatement:
    """Compile a plan to the statement whose one row has the `Columns`."""
    parameters = Parameters()
    source = ""
    if plan.write is not None:
        source = f"WITH {SOURCE} AS ({write_change(plan, parameters)}) "
    elif plan.invocation is not None:
        source = f"WITH {SOURCE} AS ({write_call(plan, parameters)}) "
    if plan.write is not None and plan.demand.returning != "representation":
        rows = f"{SOURCE} AS {_ROWS}"
    else:
        rows = f"({TreeWriter(parameters).rows(plan.root)}) AS {_ROWS}"
    body, is_bytes = _body(plan)
    columns = Columns(
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
    if plan.demand.media.explain is not None:
        sql = f"{_explain(plan.demand.media.explain)} {sql}"
    return CompiledStatement(Statement(sql), parameters.all())


def compile_estimate(plan: Plan) -> CompiledStatement | None:
    """Compile the statement that explains how many rows Postgres expects, if the plan counts so.

    Its result is the JSON of EXPLAIN. Of `count=estimated` it matters when the total is over the
    most rows that the settings allow.
    """
    if plan.demand.count not in ("planned", "estimated") or plan.demand.action != "read":
        return None
    parameters = Parameters()
    matches = TreeWriter(parameters).matches(plan.root)
    return CompiledStatement(Statement(f"EXPLAIN (FORMAT JSON) {matches}"), parameters.all())


def _total(plan: Plan, parameters: Parameters) -> str:
    count, root = plan.demand.count, plan.root
    if count is None:
        return "NULL"
    if plan.write is not None or (root.limit is None and root.offset is None):
        return "count(*)"
    if plan.invocation is None and count == "planned":
        return "NULL"
    matches = TreeWriter(parameters).matches(root)
    if plan.invocation is None and count == "estimated" and plan.max_rows is not None:
        matches += f" LIMIT {plan.max_rows + 1}"
    return f'(SELECT count(*) FROM ({matches}) AS "_m")'


def _location(plan: Plan) -> str:
    demand, write = plan.demand, plan.write
    if write is None or demand.action != "insert" or demand.returning != "headers-only":
        return "NULL"
    if not write.returned:
        return "NULL"
    return f"CASE count(*) WHEN 1 THEN min(row_to_json({_ROWS}.*)::text) END"


def _body(plan: Plan) -> tuple[str, str]:
    """The body, and whether it is a bytea."""
    media = plan.demand.media
    returns = plan.invocation.function.returns if plan.invocation else None
    if plan.write is not None and plan.demand.returning != "representation":
        return "NULL", "NULL"
    if media.shape == "none" or (returns is not None and returns.is_void):
        return "NULL", "NULL"
    if media.shape == "handler" and media.handler is not None:
        row = f"{_ROWS}.*"
        if media.handler.target is not None:
            row = f"({row})::{qualified(media.handler.target)}"
        value = f"{qualified(media.handler.function)}({row})"
        return value, _is_bytes(value)
    if plan.invocation is not None and returns is not None and not returns.is_composite:
        value = f"{_ROWS}.{quoted(plan.invocation.function.name.name)}"
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
        value = json = f"json_strip_nulls({json})"
    if one or media.shape == "object":
        # Of more than one row this is no JSON, but then the answer is an error.
        return f"coalesce(string_agg({json}::text, ','), 'null')", "NULL"
    return f"coalesce(json_agg({value})::text, '[]')", "NULL"


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
