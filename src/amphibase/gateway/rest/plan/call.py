"""Resolve a call: the function, its arguments and the rows that it returns."""

from collections.abc import Iterable
from dataclasses import replace

from amphibase.gateway.rest.errors.schema_cache import AmbiguousFunction, NoFunction
from amphibase.gateway.rest.plan.read import ReadPlanner
from amphibase.gateway.rest.plan.types import (
    SCALAR,
    ActionPlan,
    CallArgument,
    CallPlan,
    Content,
    PlanKey,
)
from amphibase.gateway.rest.request.query import QueryParams, SelectField
from amphibase.gateway.rest.schema.catalog import Catalog, Column, Name, Routine, Table
from amphibase.gateway.rest.schema.suggestions import PARAMETERS_LIKENESS, nearest
from amphibase.records.filters.tree import FieldPath

_TYPES: dict[Content, tuple[str, ...]] = {
    "json": ("json", "jsonb"),
    "text": ("text",),
    "xml": ("xml",),
    "binary": ("bytea",),
}
"""What an unnamed parameter's type may be, to take a body of that kind whole."""


def plan_call(catalog: Catalog, key: PlanKey, planner: ReadPlanner) -> ActionPlan:
    """Plan a call.

    Raises:
        RestError: no function takes the arguments, or several do, or its rows lack a column.
    """
    function = choose_function(catalog, key)
    arguments = tuple(_arguments(function, key))
    returns = function.returns
    if returns.is_composite:
        of = returns.table or function.name
        label = "pgrst_call" if _names_columns(key.query) else of.name
        table = catalog.tables.get(of)
        root = planner.read(key.query, of, table, None, label, returns.columns)
        planner.restrict(root, key.query)
        root.label = of.name
    else:
        values = Table(function.name, {SCALAR: Column(SCALAR, "", "", nullable=True)}, ())
        planner.read(key.query, function.name, values, None, function.name.name)
        query = replace(key.query, select=(SelectField(FieldPath(SCALAR)),))
        root = planner.read(query, function.name, values, None, function.name.name)
        planner.restrict(root, key.query)
    return ActionPlan(key, root, call=CallPlan(function, arguments))


def _names_columns(query: QueryParams) -> bool:
    """Whether all columns wanted of a function are named: upstream asks it for these alone."""
    fields = [each.field.name for each in query.select or () if isinstance(each, SelectField)]
    return bool(query.select) and not {"", "*"}.intersection(fields)


def choose_function(catalog: Catalog, key: PlanKey) -> Routine:
    """Choose the one of the functions of a name that takes the arguments of a call.

    Raises:
        NoFunction: none does.
        AmbiguousFunction: several do.
    """
    overloads = catalog.functions.get(key.target, ())
    names = _names(key)
    raw = key.content in ("text", "xml", "binary")
    suitable = [each for each in overloads if _takes(each, names, raw=raw)]
    suitable = suitable or [each for each in overloads if _takes_whole(each, key.content)]
    if not suitable:
        raise no_function(catalog, key.target, names, key.content)
    if len(suitable) > 1:
        raise AmbiguousFunction([_signature(each) for each in suitable])
    return suitable[0]


def _names(key: PlanKey) -> tuple[str, ...]:
    if key.content is None:
        return tuple(dict.fromkeys(name for name, _ in key.query.arguments))
    return key.keys if key.query.columns is None else key.query.columns


def _takes(function: Routine, names: Iterable[str], *, raw: bool) -> bool:
    """Whether the names are parameters of the function, and none that it needs is missing."""
    if raw and not function.parameters:
        return False
    provided = set(names)
    known = {each.name for each in function.parameters}
    needed = {each.name for each in function.parameters if each.required}
    return needed <= provided <= known


def _takes_whole(function: Routine, content: Content | None) -> bool:
    if content is None or len(function.parameters) != 1:
        return False
    parameter = function.parameters[0]
    return parameter.name == "" and parameter.type in _TYPES.get(content, ())


def _arguments(function: Routine, key: PlanKey) -> Iterable[CallArgument]:
    """Yield what the call provides; the whole body where it does so without a name."""
    provided = set(_names(key))
    if not _takes(function, provided, raw=key.content in ("text", "xml", "binary")):
        yield CallArgument("", function.parameters[0].type)
        return
    for parameter in function.parameters:
        if parameter.name not in provided:
            continue
        positions: tuple[int, ...] = ()
        if key.content is None:
            positions = tuple(
                position for name, position in key.query.arguments if name == parameter.name
            )
            if not parameter.variadic:
                positions = positions[-1:]  # the last of a parameter that comes twice
        yield CallArgument(parameter.name, parameter.type, parameter.variadic, positions)


def _signature(function: Routine) -> str:
    parameters = ", ".join(f"{each.name} => {each.type}" for each in function.parameters)
    return f"{function.name}({parameters})"


def no_function(
    catalog: Catalog, target: Name, names: tuple[str, ...], content: Content | None
) -> NoFunction:
    """Make the error of a call that no function takes.

    Args:
        names: of the arguments.
        content: of what the body is; None of a call without one.
    """
    listed = ", ".join(names)
    if content in ("text", "xml", "binary"):
        (type,) = _TYPES[content]
        return NoFunction(
            f"Could not find the function {target} in the schema cache",
            f"Searched for the function {target} with a single unnamed {type} parameter, but no "
            "matches were found in the schema cache.",
        )
    with_names = " without parameters"
    if names:
        with_names = f" with parameter{'s' if len(names) > 1 else ''} {listed}"
    whole = " or with a single unnamed json/jsonb parameter" if content == "json" else ""
    return NoFunction(
        f"Could not find the function {target}{f'({listed})' if names else ' without parameters'} "
        "in the schema cache",
        f"Searched for the function {target}{with_names}{whole}, but no matches were found in the "
        "schema cache.",
        _hint(catalog, target, names),
    )


def _hint(catalog: Catalog, target: Name, names: tuple[str, ...]) -> str | None:
    if overloads := catalog.functions.get(target):
        written = [_written(parameter.name for parameter in each.parameters) for each in overloads]
        likely = nearest(_written(names), written, min_likeness=PARAMETERS_LIKENESS)
        meant = likely and target.name + likely
    else:
        known = {name.name for name in catalog.functions if name.schema == target.schema}
        meant = nearest(target.name, known)
    return f"Perhaps you meant to call the function {target.schema}.{meant}" if meant else None


def _written(names: Iterable[str]) -> str:
    return f"({', '.join(sorted(names))})"
