"""Writes the call of a function."""

from collections.abc import Iterator

from amphibase.gateway.rest.plan.types import SCALAR, ActionPlan, CallArgument
from amphibase.gateway.rest.sql.fragments import (
    ArrayParameter,
    BodyParameter,
    StatementParameters,
    ValueParameter,
    qualified,
    quoted,
)

_ARGUMENTS = '"_a"'
_RESULT = '"_f"'


def compile_call(plan: ActionPlan, parameters: StatementParameters) -> str:
    """Compile the SELECT of a function's rows; one value is a row with the column `SCALAR`."""
    invocation = plan.call
    assert invocation is not None
    function = invocation.function
    arguments = ", ".join(_argument(each, parameters) for each in invocation.arguments)
    call = f"{qualified(function.name)}({arguments})"
    from_body = [each for each in invocation.arguments if each.name and not each.positions]
    body = _record(from_body, parameters) if from_body else ""
    if not function.returns.is_composite:
        # Not in FROM, where a bare record would need its columns named.
        return f"SELECT {call} AS {quoted(SCALAR)}{body and f' FROM {body}'}"
    before = f"{body} CROSS JOIN LATERAL " if body else ""
    return f"SELECT {_RESULT}.* FROM {before}{call} AS {_RESULT}"


def _argument(argument: CallArgument, parameters: StatementParameters) -> str:
    if not argument.name:
        return f"{parameters(BodyParameter())}::{argument.type}"
    name = quoted(argument.name)
    if argument.variadic and argument.positions:
        value = f"{parameters(ArrayParameter(argument.positions))}::{argument.type}"
    elif argument.positions:
        value = f"{parameters(ValueParameter(argument.positions[0]))}::{argument.type}"
    else:
        value = f"{_ARGUMENTS}.{name}"
    return f"{'VARIADIC ' if argument.variadic else ''}{name} := {value}"


def _record(arguments: list[CallArgument], parameters: StatementParameters) -> str:
    """The body's object, or the first of its objects, as a row of the arguments."""
    body = f"{parameters(BodyParameter())}::json"
    first = f"CASE json_typeof({body}) WHEN 'array' THEN {body} -> 0 ELSE {body} END"
    types = ", ".join(_types(arguments))
    return f"json_to_record({first}) AS {_ARGUMENTS}({types})"


def _types(arguments: list[CallArgument]) -> Iterator[str]:
    for each in arguments:
        yield f"{quoted(each.name)} {each.type}"
