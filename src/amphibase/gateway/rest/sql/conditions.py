"""Writes operands and conditions."""

from dataclasses import dataclass

from amphibase.gateway.rest.plan.types import (
    EmbedPresence,
    Operand,
    ResolvedCondition,
    ResolvedFilter,
    ResolvedLogic,
)
from amphibase.gateway.rest.sql.fragments import (
    ConstantParameter,
    ListParameter,
    PatternParameter,
    StatementParameter,
    StatementParameters,
    ValueParameter,
    qualified,
    quoted,
)
from amphibase.records.filters.operators import Argument
from amphibase.records.filters.tree import Filter


@dataclass(frozen=True, slots=True)
class RowAlias:
    """The rows that conditions are on, by their alias.

    Attributes:
        alias: quoted.
        whole: the whole row, as computed fields take it.
        is_known: whether the columns are; those of unknown rows are never looked for among the
            functions, which `alias.name` would do.
    """

    alias: str
    whole: str
    is_known: bool = True


def value_of(operand: Operand, row: RowAlias, parameters: StatementParameters) -> str:
    """Compile a column, a computed field, or a path into one of them."""
    if operand.function is not None:
        base = f"{qualified(operand.function)}({row.whole})"
    elif row.is_known:
        base = f"{row.alias}.{quoted(operand.name)}"
    else:
        base = quoted(operand.name)
    if not operand.path:
        return base
    if operand.type not in ("json", "jsonb"):
        base = f"to_jsonb({base})"
    for step in operand.path:
        arrow = "->>" if step.as_text else "->"
        if isinstance(step.key, int):
            base += f"{arrow} {step.key}"
        else:
            base += f"{arrow} {parameters(ConstantParameter(step.key))}"
    return f"({base})"


def shown(operand: Operand, row: RowAlias, parameters: StatementParameters) -> str:
    """Compile the value as a response shows it."""
    value = value_of(operand, row, parameters)
    if operand.to_json is None or operand.path:
        return value
    return f"{qualified(operand.to_json)}({value})"


def compile_condition(
    condition: ResolvedCondition, row: RowAlias, parameters: StatementParameters
) -> str:
    """Compile a condition, which stands alone or between AND and OR."""
    match condition:
        case ResolvedFilter(operand, filter):
            return _comparison(operand, filter, row, parameters)
        case ResolvedLogic(operator, conditions, negated):
            inside = f" {operator.upper()} ".join(
                compile_condition(each, row, parameters) for each in conditions
            )
            return f"{'NOT ' if negated else ''}({inside})"
        case EmbedPresence(embed, present):
            return f"{quoted(embed.alias)}.* IS {'' if present else 'NOT '}DISTINCT FROM NULL"


def _comparison(
    operand: Operand, filter: Filter, row: RowAlias, parameters: StatementParameters
) -> str:
    left = value_of(operand, row, parameters)
    if filter.operator.argument is Argument.SEARCH:
        left = _vector(left, operand, filter, parameters)
    test = filter.operator.sql.format(left, _right(operand, filter, parameters))
    return f"NOT ({test})" if filter.negated else test


def _right(operand: Operand, filter: Filter, parameters: StatementParameters) -> str:
    if filter.truth is not None:
        return filter.truth.sql
    assert filter.value is not None
    if filter.operator.argument is Argument.SEARCH:
        return f"{_language(filter, parameters)}{parameters(ValueParameter(filter.value))}"
    if filter.operator.argument is Argument.LIST:
        return _parsed_list(parameters(ListParameter(filter.value)), operand)
    is_pattern = filter.operator.argument is Argument.PATTERN
    value: StatementParameter = (
        PatternParameter(filter.value) if is_pattern else ValueParameter(filter.value)
    )
    bound = parameters(value)
    if filter.quantifier is not None:
        values = bound if is_pattern else _parsed_list(bound, operand)
        return f"{filter.quantifier.upper()}({values})"
    return bound if is_pattern else _parsed(bound, operand)


def _parsed(bound: str, operand: Operand) -> str:
    """The value, read by the domain's own function where there is one."""
    if operand.from_text is None or operand.path:
        return bound
    return f"{qualified(operand.from_text)}({bound})"


def _parsed_list(bound: str, operand: Operand) -> str:
    if operand.from_text is None or operand.path:
        return bound
    return (
        f'ARRAY(SELECT {qualified(operand.from_text)}("_v") FROM unnest({bound}::text[]) AS "_v")'
    )


def _vector(left: str, operand: Operand, filter: Filter, parameters: StatementParameters) -> str:
    """Return the left side of a text search, converted unless it is a tsvector or unknown."""
    is_vector = operand.type == "tsvector" and not operand.path
    if is_vector or (operand.type is None and not operand.path):
        return left
    return f"to_tsvector({_language(filter, parameters)}{left})"


def _language(filter: Filter, parameters: StatementParameters) -> str:
    if filter.language is None:
        return ""
    return f"{parameters(ValueParameter(filter.language))}, "
