"""What can be said about a table's policies without asking them, from their expressions.

Two things: which claims decide, so that callers who share these are one question, and what holds of
every row that the policies show, so that callers who cannot see a row are not asked about it. Who
sees a row is always decided by Postgres. Whatever is not known for certain counts as unknown: then
each caller is asked with all claims, and about every row.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from amphibase.gateway.realtime.changes.node_tree import (
    NOTHING,
    InvalidNodeTree,
    Node,
    Value,
    nodes,
    parse,
)
from amphibase.gateway.realtime.changes.possible_rows import (
    ANY_ROW,
    ColumnIsClaim,
    ColumnIsTrue,
    Kind,
    RowCondition,
    all_of,
    any_of,
)
from amphibase.schema.migrations.roles import FUNCTIONS

CLAIM_FUNCTIONS = {"uid": "sub", "role": "role", "email": "email"}
"""The functions of the schema `auth` that return one claim. `auth.jwt()` returns all."""

# Nodes that compute from their children alone, by the functions that they name. Not among them are
# tables, parameters, aggregates, and values such as CURRENT_USER.
_PURE = frozenset((
    "VAR", "CONST", "OPEXPR", "FUNCEXPR", "BOOLEXPR", "NULLTEST", "BOOLEANTEST", "RELABELTYPE",
    "COERCEVIAIO", "COALESCE", "COALESCEEXPR", "NULLIFEXPR", "DISTINCTEXPR", "SCALARARRAYOPEXPR",
    "ARRAY", "ARRAYEXPR", "CASE", "CASEEXPR", "WHEN", "CASEWHEN", "CASETESTEXPR",
    "SUBLINK", "QUERY", "FROMEXPR", "TARGETENTRY",
))  # fmt: skip

# Of the catalog (`pg_operator.dat`, `pg_type.dat`); they are the same in every server.
_VALUE_AS_JSON, _VALUE_AS_TEXT = "3211", "3477"
_TEXT = "25"
_BOOLEAN = "16"
_SCALAR_SUBQUERY = "4"
_FIRST_OWN_OID = 16384
"""Of what is no part of the server (`FirstNormalObjectId`)."""
_EQUALITIES = {
    "2972": Kind.UUID,
    "98": Kind.TEXT,
    # Between integers of 2, 4 and 8 bytes.
    **dict.fromkeys(("94", "96", "410", "15", "416", "532", "533", "1862", "1868"), Kind.INTEGER),
}
_CASTS = {
    "25": Kind.TEXT,
    "2950": Kind.UUID,
    **dict.fromkeys(("20", "21", "23"), Kind.INTEGER),
}


class ReadPolicy(NamedTuple):
    """A policy for reading.

    Attributes:
        expression: as the catalog keeps it.
    """

    is_permissive: bool
    expression: str


class Function(NamedTuple):
    """A function that a policy calls.

    Attributes:
        name: of a function of the schema `auth` that is written in plain SQL; None of any other.
        body: the text.
        is_constant: whether it is one of the server's, whose result depends on its arguments alone.
        is_declared_immutable: whether it is another one that claims the same.
        names_table: whether it is another one whose text has the name of the policy's table, which
            it may read by itself.
    """

    name: str | None
    body: str
    is_constant: bool
    is_declared_immutable: bool
    names_table: bool


class PolicyReading(NamedTuple):
    """What is known about the policies of one table for one role.

    Attributes:
        claims: those by which they decide; None where they may decide by anything else.
        condition: what holds of every row that they show.
        takes_row: whether they may decide by columns that they do not mention: of the row as a
            whole, or where a function reads the table.
    """

    claims: frozenset[str] | None
    condition: RowCondition
    takes_row: bool

    def reduce(self, claims: str) -> str:
        """Return the JSON of the claims by which the policies decide, of that of all claims."""
        return claims if self.claims is None else _reduce(claims, self.claims)


UNKNOWN = PolicyReading(None, ANY_ROW, True)


@lru_cache(4096)
def _reduce(claims: str, names: frozenset[str]) -> str:
    content = json.loads(claims)
    return json.dumps(
        {name: content[name] for name in sorted(names) if name in content},
        separators=(",", ":"),
        ensure_ascii=False,
    )


def read_policies(
    policies: Sequence[ReadPolicy], functions: Mapping[str, Function], columns: Mapping[str, str]
) -> PolicyReading:
    """Read the policies of a table for a role.

    Args:
        functions: that they call, by their oids.
        columns: of the table, by their numbers (`pg_attribute.attnum`), as texts.
    """
    try:
        trees = [parse(policy.expression) for policy in policies]
        reader = _PolicyReader(functions, columns)
        shown = [
            reader.condition(tree)
            for policy, tree in zip(policies, trees, strict=True)
            if policy.is_permissive
        ]
        takes_row = any(map(_has_row, trees)) or any(
            function.names_table for function in functions.values()
        )
        return PolicyReading(reader.all_claims(trees), any_of(shown), takes_row)
    except (InvalidNodeTree, RecursionError):
        return UNKNOWN


class _Unknown(Exception):
    """An expression may depend on something else than its row and on claims that are named."""


class _PolicyReader:
    def __init__(self, functions: Mapping[str, Function], columns: Mapping[str, str]) -> None:
        self._constant = {oid for oid, function in functions.items() if function.is_constant}
        self._names = {
            oid: function.name
            for oid, function in functions.items()
            if function.name in FUNCTIONS and function.body == FUNCTIONS[function.name][1]
        }
        self._columns = columns

    def all_claims(self, trees: Iterable[Node]) -> frozenset[str] | None:
        """Return the claims that expressions read; None where they may read anything else."""
        try:
            return frozenset(claim for tree in trees for claim in self._claims(tree))
        except _Unknown:
            return None

    def _claims(self, node: Node) -> Iterator[str]:
        """Yield the claims that an expression reads. Raises _Unknown."""
        claim = self._claim(node)
        if claim is not None:
            yield claim
            return
        if node.name not in _PURE:
            raise _Unknown
        for field, value in node.fields.items():
            # Of hashing and negation, 0 stands for the operator's own.
            if field.endswith("funcid") and value not in self._constant:
                if value != "0" or field in ("funcid", "opfuncid"):
                    raise _Unknown
            elif field == "resulttype" and not _is_of_server(value):
                raise _Unknown
        for child in node.children():
            yield from self._claims(child)

    def _claim(self, node: Node) -> str | None:
        """Return the claim that an expression is, or of which it is a value or a part."""
        name = self._called(node)
        if name is not None:
            return CLAIM_FUNCTIONS.get(name)
        if node.name == "OPEXPR" and node.fields.get("opno") in (_VALUE_AS_JSON, _VALUE_AS_TEXT):
            match [*nodes(node.fields.get("args", []))]:
                case [claims, key] if self._called(claims) == "jwt":
                    return _text(key)
        return None

    def _called(self, node: Node) -> str | None:
        """Return the name of the function of the schema `auth` that is called."""
        if node.name != "FUNCEXPR":
            return None
        oid = node.fields.get("funcid")
        return self._names.get(oid) if isinstance(oid, str) else None

    def condition(self, node: Node) -> RowCondition:
        """Return what holds of every row of which an expression does."""
        arguments = [*nodes(node.fields.get("args", []))]
        match node.name, node.fields.get("boolop"):
            case "BOOLEXPR", "and":
                return all_of(map(self.condition, arguments))
            case "BOOLEXPR", "or":
                return any_of(map(self.condition, arguments))
            case "VAR", _ if node.fields.get("vartype") == _BOOLEAN:
                column = self._column(node)
                return ANY_ROW if column is None else ColumnIsTrue(column)
            case "OPEXPR", _:
                kind = _EQUALITIES.get(str(node.fields.get("opno")))
                if kind is not None and len(arguments) == 2:
                    return self._equality(kind, *arguments)
        return ANY_ROW

    def _equality(self, kind: Kind, left: Node, right: Node) -> RowCondition:
        for variable, value in ((left, right), (right, left)):
            column, claim = self._column(variable), self._value(kind, value)
            if column is not None and claim is not None:
                return ColumnIsClaim(column, *claim)
        return ANY_ROW

    def _column(self, node: Node) -> str | None:
        """Return the column of the table that an expression is, also as text."""
        if node.name == "RELABELTYPE":
            node = _only(node, "arg")
        match node.name, node.fields:
            case "VAR", {"varno": "1", "varlevelsup": "0", "varattno": str(number)}:
                return self._columns.get(number)
        return None

    def _value(self, kind: Kind, node: Node) -> tuple[str, Kind] | None:
        """Return the claim that an expression is, and as what, for a comparison of a kind."""
        if node.name == "SUBLINK" and node.fields.get("subLinkType") == _SCALAR_SUBQUERY:
            # Its one value, or null, whatever else the query says.
            node = _only(_only(_only(node, "subselect"), "targetList"), "expr")
        if node.name == "COERCEVIAIO":
            cast, node = _CASTS.get(str(node.fields.get("resulttype"))), _only(node, "arg")
            if self._called(node) == "uid" and cast is kind is Kind.TEXT:
                return "sub", Kind.UUID
        else:
            cast = Kind.UUID if self._called(node) == "uid" else Kind.TEXT
        claim = self._claim(node)
        if claim is None or cast is not kind or node.fields.get("opno") == _VALUE_AS_JSON:
            return None
        return claim, kind


def _only(node: Node, field: str) -> Node:
    """Return the one node of a field. Raises InvalidNodeTree."""
    match [*nodes(node.fields.get(field, NOTHING))]:
        case [child]:
            return child
    raise InvalidNodeTree(f"{node.name}: {field}")


def _has_row(node: Node, level: int = 0) -> bool:
    """Return whether an expression has the row of the policy's table as a whole.

    Args:
        level: of the query that it is part of, within the policy.
    """
    match node.name, node.fields:
        case "VAR", {"varno": "1", "varattno": "0", "varlevelsup": levels} if levels == str(level):
            return True
        case "QUERY", _:
            level += 1
    return any(_has_row(child, level) for child in node.children())


def _text(node: Node) -> str | None:
    """Return the text that a constant is."""
    value = node.fields.get("constvalue")
    if node.name != "CONST" or node.fields.get("consttype") != _TEXT or not isinstance(value, list):
        return None
    # The number of bytes, and these between brackets: four of the size, and the text.
    try:
        return bytes(int(str(each)) % 256 for each in value[6:-1]).decode()
    except ValueError:
        return None


def _is_of_server(oid: Value) -> bool:
    return isinstance(oid, str) and oid.isdigit() and int(oid) < _FIRST_OWN_OID
