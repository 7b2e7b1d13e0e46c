"""Writes the tree of relations as one SELECT, in which embedded relations are lateral joins.

The row of such a join is NULL where there is no related row, whatever its columns are. Embedded
relations are JSONB upstream, which has its own order of keys. Where the response is JSON, they are
written in that order without it: Postgres makes JSON of rows at once, and would need 65 % more time
to make JSONB of them first (seen in 15.18). What differs is the whitespace.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from amphibase.gateway.rest.plan.types import (
    Embed,
    EmbedPresence,
    OutputColumn,
    ReadPlan,
    ResolvedCondition,
    ResolvedLogic,
    Sort,
    Star,
)
from amphibase.gateway.rest.request.query import Aggregate
from amphibase.gateway.rest.schema.catalog import ComputedRelationship
from amphibase.gateway.rest.sql.conditions import RowAlias, compile_condition, shown, value_of
from amphibase.gateway.rest.sql.fragments import (
    StatementParameters,
    ValueParameter,
    qualified,
    quoted,
    type_name,
)

MAX_FLATTENED = 40
"""How many related rows of a tree Postgres may join in an order of its own: the time in which it
finds one grows faster than their number (20 take it 0.1 seconds, 40 take 0.4, 120 take 2.2, seen
in 15.18). Apart, each costs time at every execution, and not once for a prepared statement."""

SOURCE = '"_source"'
"""The rows that the statement wrote, or got from a function."""


@dataclass(frozen=True, slots=True)
class _OutputKey:
    """One key of a node's rows, before it is aggregated.

    Attributes:
        name: None of a star, which is many.
        is_json: JSON cannot be grouped by, JSONB can.
        group: what groups have in common, where it is not the value: the column itself, where it
            is cast, or of a type with a representation of its own.
        row: the value as a row, which is not JSON yet.
    """

    name: str | None
    value: str
    aggregate: Aggregate | None = None
    aggregate_cast: str | None = None
    is_json: bool = False
    group: str | None = None
    row: str | None = None


class SelectCompiler:
    """Writes the tree of one statement.

    Args:
        counted: write only what decides how many rows there are.
        makes_json: whether the statement makes JSON of its rows, whatever they hold.
    """

    def __init__(
        self, parameters: StatementParameters, *, counted: bool = False, makes_json: bool = False
    ) -> None:
        self._parameters = parameters
        self._counted = counted
        self._makes_json = makes_json
        self._jsonb = "" if makes_json else "::jsonb"

    def rows(self, root: ReadPlan) -> str:
        """Compile the SELECT of the rows, whose columns are the keys of the response."""
        keys = self._own_keys(root)
        return self._select(root, self._written(keys), None, _groups(keys, root))

    def matches(self, root: ReadPlan) -> str:
        """Compile the SELECT of as many rows as there are without limit and offset.

        As upstream, rows that groups are made of count one by one.
        """
        return f"SELECT{SelectCompiler(self._parameters, counted=True)._from(root, None)}"

    def is_grouped(self, root: ReadPlan) -> bool:
        """Return whether the rows are groups."""
        return _are_grouped(self._own_keys(root))

    def _select(
        self,
        node: ReadPlan,
        values: list[str],
        origin: "tuple[ReadPlan, Embed] | None",
        groups: str = "",
    ) -> str:
        return (
            f"SELECT {', '.join(values)}{self._from(node, origin)}{groups}"
            f"{self._order(node)}{self._range(node, node.limit)}"
        )

    # Where the rows come from

    def _from(self, node: ReadPlan, origin: "tuple[ReadPlan, Embed] | None") -> str:
        row = row_alias(node)
        rows = SOURCE if node.source is None else qualified(node.source)
        conditions: list[str] = []
        if origin is None:
            rows = f"{rows} AS {row.alias}"
        else:
            rows, conditions = _related(*origin, rows)
        joins = "".join(self._joins(node))
        conditions += [compile_condition(each, row, self._parameters) for each in node.conditions]
        return f" FROM {rows}{joins}{where(conditions)}"

    def _joins(self, node: ReadPlan) -> Iterator[str]:
        tested = set(_tested(node.conditions)) if self._counted else ()
        is_fenced = _count_to_one(node) > MAX_FLATTENED
        for embed in node.embeds:
            if not self._counted or embed.inner or embed in tested:
                inside, columns = self._joined(node, embed)
                if is_fenced and embed.to_one and not embed.node.is_cut:
                    inside += " OFFSET 0"  # which keeps it a query of its own
                kind = "INNER" if embed.inner else "LEFT"
                names = f"({', '.join(columns)})" if columns else ""
                yield f" {kind} JOIN LATERAL ({inside}) AS {quoted(embed.alias)}{names} ON true"

    def _joined(self, node: ReadPlan, embed: Embed) -> tuple[str, list[str]]:
        """The SELECT of a join, and the names of its columns where they are not the keys'."""
        child, origin = embed.node, (node, embed)
        if child.is_empty or self._counted:
            return self._bare(embed, origin)
        keys, row = self._member_order(self._own_keys(child), child), row_alias(child)
        hidden = [value_of(operand, row, self._parameters) for operand in embed.hidden]
        hidden_names = [_hidden(number) for number in range(len(hidden))]
        if embed.spread:
            values = [key.value for key in self._keys(child, expanded=True)]
            names = [_numbered(number) for number in range(len(values))]
            if embed.to_one:
                return self._select(child, values + hidden, origin), names + hidden_names
            inside = self._select(child, values, origin)
            arrays = ", ".join(f'json_agg("_s".{name}){self._jsonb}' for name in names)
            rows = f'({inside}) AS "_s"({", ".join(names)})'
            return f"SELECT {arrays} FROM {rows} HAVING count(*) > 0", names
        if not embed.to_one:
            inside = self._select(child, self._written(keys), origin, _groups(keys, child))
            rows = f'({inside}) AS "_s"'
            array = f'json_agg("_s".*){self._jsonb}'
            return f"SELECT {array} FROM {rows} HAVING count(*) > 0", [_JSON]
        if not hidden:
            return self._select(child, self._written(keys), origin, _groups(keys, child)), []
        inside = f'(SELECT {", ".join(self._written(keys))}) AS "_s"'
        object_ = f'(SELECT row_to_json("_s".*){self._jsonb} FROM {inside})'
        return self._select(child, [object_, *hidden], origin), [_JSON, *hidden_names]

    def _bare(self, embed: Embed, origin: tuple[ReadPlan, Embed]) -> tuple[str, list[str]]:
        """Return a join that tests whether a related row exists, and reads no column of it."""
        child = embed.node
        hidden = [value_of(each, row_alias(child), self._parameters) for each in embed.hidden]
        values = ", ".join(["true", *hidden])
        names = [_numbered(0), *(_hidden(number) for number in range(len(hidden)))]
        limit = child.limit if embed.to_one else min(1, 1 if child.limit is None else child.limit)
        return f"SELECT {values}{self._from(child, origin)}{self._range(child, limit)}", names

    def _order(self, node: ReadPlan) -> str:
        if not node.sorts:
            return ""
        row = row_alias(node)
        return f" ORDER BY {', '.join(self._sort(sort, row) for sort in node.sorts)}"

    def _sort(self, sort: Sort, row: RowAlias) -> str:
        if sort.embed is not None:
            term = _sorted_by(sort.embed, sort.hidden)
        elif sort.operand is not None:
            term = value_of(sort.operand, row, self._parameters)
        else:
            term = "count(*)"
        if sort.descending is not None:
            term += " DESC" if sort.descending else " ASC"
        if sort.nulls_first is not None:
            term += " NULLS FIRST" if sort.nulls_first else " NULLS LAST"
        return term

    def _range(self, node: ReadPlan, limit: int | None) -> str:
        text = "" if limit is None else f" LIMIT {limit}"
        if node.offset is None:
            return text
        return f"{text} OFFSET {self._parameters(ValueParameter(node.offset))}"

    # What the rows hold

    def _own_keys(self, node: ReadPlan) -> list[_OutputKey]:
        """The keys of rows of their own; those of groups are never written as a star."""
        keys = list(self._keys(node, expanded=False))
        return list(self._keys(node, expanded=True)) if _are_grouped(keys) else keys

    def _member_order(self, keys: list[_OutputKey], node: ReadPlan) -> list[_OutputKey]:
        """Put the keys of a related row in the order of JSONB: by length, then by bytes."""
        if not self._makes_json:
            return keys
        expanded = keys if _are_grouped(keys) else list(self._keys(node, expanded=True))
        names = [key.name.encode() for key in expanded if key.name is not None]
        if len(names) < len(expanded):  # columns that are not known
            return keys
        by_name = zip(names, expanded, strict=True)
        return [key for _, key in sorted(by_name, key=lambda each: (len(each[0]), each[0]))]

    def _written(self, keys: list[_OutputKey]) -> list[str]:
        """The keys as the columns of a SELECT."""
        if _are_grouped(keys):
            return [_column(key, _groupable(key)) for key in keys]
        return [_column(key, (key.row if self._makes_json else None) or key.value) for key in keys]

    def _keys(self, node: ReadPlan, *, expanded: bool) -> Iterator[_OutputKey]:
        row = row_alias(node)
        for item in node.select:
            match item:
                case OutputColumn():
                    yield self._key(item, row)
                case Star(outputs, is_plain) if is_plain and not (expanded and outputs):
                    yield _OutputKey(None, f"{row.alias}.*")
                case Star(outputs):
                    yield from (self._key(output, row) for output in outputs)
                case Embed():
                    yield from self._embed_keys(item)

    def _key(self, output: OutputColumn, row: RowAlias) -> _OutputKey:
        if output.operand is None:
            return _OutputKey(output.key, "1", "count", output.aggregate_cast)
        value = shown(output.operand, row, self._parameters)
        is_json = output.operand.to_json is not None and not output.operand.path
        group = None
        if is_json or (output.cast and output.key == output.operand.name):
            group = value_of(output.operand, row, self._parameters)
        if output.cast is not None:
            is_json, value = False, f"CAST({value} AS {type_name(output.cast)})"
        return _OutputKey(
            output.key, value, output.aggregate, output.aggregate_cast, is_json, group
        )

    def _embed_keys(self, embed: Embed) -> Iterator[_OutputKey]:
        alias = quoted(embed.alias)
        if embed.node.is_empty:
            return
        if embed.spread:
            for number, key in enumerate(self._keys(embed.node, expanded=True)):
                value = f"{alias}.{_numbered(number)}"
                if embed.to_one:
                    yield replace(key, value=value, group=None, row=None)
                else:
                    yield self._related_key(key.name, f"COALESCE({value}, '[]')")
        elif not embed.to_one:
            yield self._related_key(embed.key, f"COALESCE({alias}.{_JSON}, '[]')")
        elif embed.hidden:
            yield self._related_key(embed.key, f"{alias}.{_JSON}")
        else:
            json = f"row_to_json({alias}.*){self._jsonb}"
            yield self._related_key(embed.key, json, row=f"({alias}.*)::record")

    def _related_key(self, name: str | None, json: str, row: str | None = None) -> _OutputKey:
        return _OutputKey(name, json, is_json=self._makes_json, row=row)


_JSON = '"_json"'


def row_alias(node: ReadPlan) -> RowAlias:
    """Return the alias of the node's rows."""
    alias = quoted(node.alias)
    whole = f"{alias}.*"
    if node.source is None and node.table is not None:
        whole = f"({whole})::{qualified(node.table.name)}"
    return RowAlias(alias, whole, is_known=node.table is not None)


def where(conditions: list[str]) -> str:
    """Write WHERE, if there is a condition."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _related(parent: ReadPlan, embed: Embed, rows: str) -> tuple[str, list[str]]:
    """FROM of an embedded relation, and what ties its rows to one of its parent's."""
    row, above = row_alias(embed.node), row_alias(parent)
    relationship = embed.relationship
    if isinstance(relationship, ComputedRelationship):
        return f"{qualified(relationship.function)}({above.whole}) AS {row.alias}", []
    rows = f"{rows} AS {row.alias}"
    junction = relationship.junction
    if junction is None:
        return rows, [
            f"{row.alias}.{quoted(far)} = {above.alias}.{quoted(near)}"
            for near, far in relationship.columns
        ]
    between = quoted(f"{embed.alias}j")
    ties = [
        f"{between}.{quoted(column)} = {side.alias}.{quoted(of_side)}"
        for side, pairs in ((row, junction.target), (above, junction.source))
        for column, of_side in pairs
    ]
    return f"{rows} CROSS JOIN {qualified(junction.table)} AS {between}", ties


def _tested(conditions: list[ResolvedCondition] | tuple[ResolvedCondition, ...]) -> Iterator[Embed]:
    """The embedded relations whose presence the conditions ask for."""
    for each in conditions:
        if isinstance(each, EmbedPresence):
            yield each.embed
        elif isinstance(each, ResolvedLogic):
            yield from _tested(each.conditions)


def _count_to_one(node: ReadPlan) -> int:
    """How many related rows a tree has at most for each of its node's rows."""
    return sum(1 + _count_to_one(embed.node) for embed in node.embeds if embed.to_one)


def _are_grouped(keys: list[_OutputKey]) -> bool:
    return any(key.aggregate for key in keys)


def _groups(keys: list[_OutputKey], node: ReadPlan) -> str:
    if not _are_grouped(keys):
        return ""
    values = [key.group or _groupable(key) for key in keys if key.aggregate is None]
    # What is spread may order groups, too: it is the same value as one of the keys.
    values += [
        _sorted_by(sort.embed, sort.hidden) for sort in node.sorts if sort.embed and sort.is_key
    ]
    return f" GROUP BY {', '.join(values)}" if values else ""


def _groupable(key: _OutputKey) -> str:
    return f"({key.value})::jsonb" if key.is_json else key.value


def _column(key: _OutputKey, value: str) -> str:
    if key.aggregate is not None:
        value = f"{key.aggregate}({key.value})"
        if key.aggregate_cast is not None:
            value = f"CAST({value} AS {type_name(key.aggregate_cast)})"
    return value if key.name is None else f"{value} AS {quoted(key.name)}"


def _sorted_by(embed: Embed, hidden: int) -> str:
    return f"{quoted(embed.alias)}.{_hidden(hidden)}"


def _numbered(number: int) -> str:
    return f'"_k{number}"'


def _hidden(number: int) -> str:
    return f'"_h{number}"'
