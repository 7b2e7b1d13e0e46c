"""Writes operands and conditions."""

from dataclasses import dataclass

from amphibase.gateway.rest.plan.types import Comparison, Condition, Junction, Operand, Presence
from amphibase.gateway.rest.request.query import Filter
from amphibase.gateway.rest.sql.fragments import (
    Constant,
    Given,
    Listed,
    Parameter,
    Parameters,
    Pattern,
    qualified,
    quoted,
)

_OPERATORS = {
    "eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "LIKE",
    "ilike": "ILIKE", "match": "~", "imatch": "~*", "isdistinct": "IS DISTINCT FROM", "cs": "@>",
    "cd": "<@", "ov": "&&", "sl": "<<", "sr": ">>", "nxr": "&<", "nxl": "&>", "adj": "-|-",
}  # fmt: skip
_SEARCHES = {
    "fts": "to_tsquery", "plfts": "plainto_tsquery", "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}  # fmt: skip
_TRUTHS = {
    "null": "IS NULL", "not_null": "IS NOT NULL", "true": "IS TRUE", "false": "IS FALSE",
    "unknown": "IS UNKNOWN",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frame:
    """The rows that conditions speak of.

    Attributes:
        alias: quoted.
        row: the whole row, as computed fields take it.
        is_known: whether the columns are; those of unknown rows are never looked for among the
            functions, which `alias.name` would do.
    """

    alias: str
    row: str
    is_known: bool = True


def value_of(operand: Operand, frame: Frame, parameters: Parameters) -> str:
    """A column, a computed field, or something in one of them."""
    if operand.function is not None:
        base = f"{qualified(operand.function)}({frame.row})"
    elif frame.is_known:
        base = f"{frame.alias}.{quoted(operand.name)}"
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
            base += f"{arrow} {parameters(Constant(step.key))}::text"
    return f"({base})"


def shown(operand: Operand, frame: Frame, parameters: Parameters) -> str:
    """The value as an answer shows it."""
    value = value_of(operand, frame, parameters)
    if operand.to_json is None or operand.path:
        return value
    return f"{qualified(operand.to_json)}({value})"


def condition(asked: Condition, frame: Frame, parameters: Parameters) -> str:
    """One condition, which stands alone or between AND and OR."""
    match asked:
        case Comparison(operand, filter):
            return _comparison(operand, filter, frame, parameters)
        case Junction(operator, conditions, negated):
            inside = f" {operator.upper()} ".join(
                condition(each, frame, parameters) for each in conditions
            )
            return f"{'NOT ' if negated else ''}({inside})"
        case Presence(embed, present):
            return f"{quoted(embed.alias)}.* IS {'' if present else 'NOT '}DISTINCT FROM NULL"


def _comparison(operand: Operand, filter: Filter, frame: Frame, parameters: Parameters) -> str:
    value = value_of(operand, frame, parameters)
    if filter.truth is not None:
        test = f"{value} {_TRUTHS[filter.truth]}"
    else:
        assert filter.value is not None
        if filter.operator in _SEARCHES:
            test = _search(value, operand, filter, parameters)
        elif filter.operator == "in":
            bound = parameters(Listed(filter.value))
            test = f"{value} = ANY({_parsed_list(bound, operand)})"
        else:
            likes = filter.operator in ("like", "ilike")
            given: Parameter = Pattern(filter.value) if likes else Given(filter.value)
            bound = parameters(given)
            operator = _OPERATORS[filter.operator]
            if filter.quantifier is not None:
                right = f"{filter.quantifier.upper()}({_parsed_list(bound, operand)})"
            else:
                right = _parsed(bound, operand)
            test = f"{value} {operator} {right}"
    return f"NOT ({test})" if filter.negated else test


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


def _search(value: str, operand: Operand, filter: Filter, parameters: Parameters) -> str:
    assert filter.value is not None
    language = ""
    if filter.language is not None:
        language = f"{parameters(Given(filter.language))}::regconfig, "
    is_vector = operand.type == "tsvector" and not operand.path
    if not is_vector and (operand.type is not None or operand.path):
        value = f"to_tsvector({language}{value})"
    query = f"{_SEARCHES[filter.operator]}({language}{parameters(Given(filter.value))})"
    return f"{value} @@ {query}"
