"""Resolves what is read: the tree of relations, with their columns, filters, orders and ranges."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from amphibase.gateway.rest.errors.base import (
    AggregatesNotAllowed,
    NotEmbedded,
    NotImplementedHere,
    OrderNotToOne,
    ParseError,
)
from amphibase.gateway.rest.errors.database import DatabaseError
from amphibase.gateway.rest.plan.embedding import find_relationship
from amphibase.gateway.rest.plan.types import (
    Embed,
    EmbedPresence,
    Operand,
    OutputColumn,
    ReadPlan,
    ResolvedCondition,
    ResolvedFilter,
    ResolvedLogic,
    Sort,
    Star,
)
from amphibase.gateway.rest.request.query import (
    OrderingTerm,
    QueryParams,
    SelectField,
    SelectItem,
    SelectRelation,
)
from amphibase.gateway.rest.schema.catalog import Catalog, Name, Relationship, Table
from amphibase.gateway.rest.schema.suggestions import undefined_column
from amphibase.records.filters.tree import Condition, FieldPath, Filter, Logic, Path

MAX_KEYS = 3000
"""How many columns and relations a request may select; those of spread relations count again."""

_ALL = (SelectField(FieldPath("*")),)


class ReadPlanner:
    """Resolves one request's tree.

    Args:
        path: the schemas where computed fields are looked for; embedded relations in the first.
        max_rows: the most rows of any relation; None for all.
        aggregates: whether aggregates are allowed.
        represented: whether domains look as their casts to JSON say, whatever the response is.
    """

    def __init__(
        self,
        catalog: Catalog,
        path: Sequence[str],
        max_rows: int | None,
        aggregates: bool,
        represented: bool,
    ) -> None:
        self._catalog = catalog
        self._path = path
        self._max_rows = max_rows
        self._aggregates = aggregates
        self._represented = represented
        self._undefined: DatabaseError | None = None
        self._aliases = 0
        self._columns: dict[ReadPlan, Collection[str]] = {}
        self._embeds: dict[ReadPlan, Mapping[str, Embed]] = {}
        self._keys = 0

    def read(
        self,
        query: QueryParams,
        name: Name,
        table: Table | None,
        source: Name | None,
        label: str,
        columns: Collection[str] = (),
    ) -> ReadPlan:
        """Plan the tree of a query, without its filters and ranges.

        Args:
            name: whose relationships and computed fields the rows have.
            source: where the rows come from; None for those of the statement itself.
            label: what errors call the rows; those of an order call them by the name.
            columns: of the rows where there is no table, if they are known.
        """
        root = self.node(table, source, label)
        self._columns[root] = columns
        select = _ALL if query.select is None else query.select
        for path, _ in (*query.conditions, *query.orders, *query.ranges):
            _check_path(select, path)
        self._select(root, name, select, depth=1)
        self._arrange(root, query)
        root.label = name.name
        for path, orders in query.orders:
            node = self._at(root, path)
            node.sorts = [self._sort(node, order) for order in orders]
        root.label = label
        return root

    def restrict(self, root: ReadPlan, query: QueryParams, *, is_written: bool = False) -> None:
        """Add the filters and ranges.

        Args:
            is_written: whether the rows were written: by the filters of the root, and without a
                limit.
        """
        for path, condition in query.conditions:
            if path or not is_written:
                node = self._at(root, path)
                node.conditions.append(self.condition(node, condition))
        if is_written:
            return
        for path, range in query.ranges:
            node = self._at(root, path)
            node.limit, node.offset = range.limit, range.offset
        self._limit(root)
        if _is_one_row(root):
            root.limit = None  # which keeps Postgres from seeing through the subquery

    def allow_unknown_columns(self) -> None:
        """Forget the columns that were not there: Postgres will not be asked for them."""
        self._undefined = None

    def check_columns(self) -> None:
        """Raise the error of the first column that is not there, which Postgres would tell.

        It comes after all that is wrong with the request before Postgres is asked.
        """
        if self._undefined is not None:
            raise self._undefined

    def condition(self, node: ReadPlan, condition: Condition) -> ResolvedCondition:
        """Resolve a filter, or a tree of them, on the node's columns and its embeds."""
        if isinstance(condition, Logic):
            inside = tuple(self.condition(node, each) for each in condition.conditions)
            return ResolvedLogic(condition.operator, inside, condition.negated)
        presence = self._presence(node, condition)
        return presence or ResolvedFilter(self.operand(node, condition.field), condition)

    def _presence(self, node: ReadPlan, filter: Filter) -> EmbedPresence | None:
        """The filter, if it is on whether there is a row of an embedded relation.

        As upstream, it is so only by the alias of the relation (its name, where it has none) and
        only with `is.null`, negated or not; else a column of that name is meant.
        """
        name = filter.field.name
        embed = None if filter.field.path else self._find(node, name)
        is_null = filter.truth is not None and filter.truth.name == "null"
        if embed is None or embed.key != name or not is_null:
            return None
        return EmbedPresence(embed, present=filter.negated)

    def operand(self, node: ReadPlan, field: FieldPath) -> Operand:
        """Resolve a column or a computed field of the node's rows."""
        table = node.table
        if table is None:
            known = self._columns.get(node)
            if known and field.name not in known:
                self._miss(node, field.name, known)
            return Operand(field.name, path=field.path)
        column = table.columns.get(field.name)
        if column is not None:
            representations = self._catalog.representations
            return Operand(
                column.name,
                column.base_type,
                path=field.path,
                to_json=representations.get((column.type, "json")),
                from_text=representations.get(("text", column.type)),
            )
        function = self._computed_field(table, field.name)
        if function is None:
            self._miss(node, field.name, table.columns)
        return Operand(field.name, function=function, path=field.path)

    def _miss(self, node: ReadPlan, name: str, columns: Collection[str]) -> None:
        if self._undefined is None:
            self._undefined = undefined_column(node.label, name, columns)

    def _computed_field(self, table: Table, name: str) -> Name | None:
        functions = self._catalog.computed_fields.get(table.name, ())
        return next(
            (each for schema in self._path if (each := Name(schema, name)) in functions), None
        )

    def _has(self, table: Table, name: str) -> bool:
        return name in table.columns or self._computed_field(table, name) is not None

    def node(self, table: Table | None, source: Name | None, label: str) -> ReadPlan:
        """Make the node of a relation, empty yet; errors name its rows by the label."""
        return ReadPlan(self._alias(), table, source, label)

    def _alias(self) -> str:
        self._aliases += 1
        return f"_{self._aliases}"

    def _select(self, node: ReadPlan, name: Name, items: Iterable[SelectItem], depth: int) -> None:
        for item in items:
            if isinstance(item, SelectRelation):
                node.select.append(self._embed(name, item, depth))
            elif item.field.name == "*" and item.aggregate is None:
                node.select.append(self._star(node))
            else:
                node.select.append(self._output(node, item))
            self._count(1)
        embeds = node.embeds
        for key, count in Counter(embed.key for embed in embeds if not embed.spread).items():
            if count > 1:  # JSON would have the key twice
                alias = f"{name.name}_{key}_{depth}"
                raise DatabaseError(400, "42712", f'table name "{alias}" specified more than once')
        self._embeds[node] = {
            **{embed.name: embed for embed in reversed(embeds)},
            **{embed.key: embed for embed in reversed(embeds)},
        }

    def _arrange(self, root: ReadPlan, query: QueryParams) -> None:
        """Put the keys in upstream's order: columns first, and of the relations those first whose
        filters, orders and ranges the request names first."""
        filters = [path for path, each in query.conditions if isinstance(each, Filter)]
        logic = [path for path, each in query.conditions if isinstance(each, Logic)]
        orders = [path for path, _ in query.orders]
        ranges = [path for path, _ in query.ranges]
        for paths in (filters, orders, ranges, logic):
            for path in reversed(paths):
                node = root
                for name in path:
                    embed = self._found(node, name)
                    node.select.remove(embed)
                    node.select.insert(0, embed)
                    node = embed.node
        for node in self._embeds:
            node.select.sort(key=lambda each: isinstance(each, Embed))

    def _count(self, keys: int) -> None:
        self._keys += keys
        if self._keys > MAX_KEYS:
            raise ParseError(f"The select parameter has over {MAX_KEYS} columns and relations")

    def _find(self, node: ReadPlan, name: str) -> Embed | None:
        """The embedded relation of that alias, or else of that name."""
        return self._embeds.get(node, {}).get(name)

    def _star(self, node: ReadPlan) -> Star:
        if node.table is None:
            return Star()
        operands = [self.operand(node, FieldPath(column)) for column in node.table.columns]
        expand = self._represented and any(operand.to_json for operand in operands)
        outputs = tuple(OutputColumn(operand.name, operand) for operand in operands)
        return Star(outputs, is_plain=not expand)

    def _output(self, node: ReadPlan, item: SelectField) -> OutputColumn:
        if self._counts(node, item):
            return OutputColumn(item.alias or "count", None, None, "count", item.cast)
        if item.aggregate is not None and not self._aggregates:
            raise AggregatesNotAllowed
        operand = self.operand(node, item.field) if item.field.name else None
        if operand is not None and not self._represented:
            operand = Operand(operand.name, operand.type, operand.function, operand.path)
        key = item.alias or item.aggregate or _last_key(item.field)
        return OutputColumn(key, operand, item.cast, item.aggregate, item.aggregate_cast)

    def _counts(self, node: ReadPlan, item: SelectField) -> bool:
        """Whether a bare `count` counts: it may, where there is no column of that name, even if
        aggregates are switched off (as the older way to count embedded rows)."""
        field = item.field
        if field.name != "count" or field.path or item.aggregate or node.table is None:
            return False
        return not self._has(node.table, field.name)

    def _embed(self, origin: Name, item: SelectRelation, depth: int) -> Embed:
        relationship = find_relationship(self._catalog, self._path[0], origin, item.name, item.hint)
        target = relationship.target
        table = self._catalog.tables.get(target)
        label = f"{target.name}_{depth}"
        if isinstance(relationship, Relationship) and relationship.junction is not None:
            label = target.name
        node = self.node(table, target, label)
        self._select(node, target, item.select, depth + 1)
        if item.spread:
            self._count(_width(node))
        embed = Embed(
            alias=self._alias(),
            name=item.name,
            key=item.alias or item.name,
            node=node,
            relationship=relationship,
            inner=item.join == "inner",
            spread=item.spread,
        )
        if embed.spread and table is None and any(isinstance(each, Star) for each in node.select):
            raise NotImplementedHere(f"The columns of '{item.name}' are not known to be spread.")
        if embed.spread and not embed.to_one and _has_aggregates(node):
            raise NotImplementedHere(
                "Aggregates are not implemented for one-to-many or many-to-many spreads."
            )
        return embed

    def _sort(self, node: ReadPlan, order: OrderingTerm) -> Sort:
        if order.relation is None:
            if self._counts(node, SelectField(order.field)) and _has_aggregates(node):
                return Sort(None, order.descending, order.nulls_first)
            operand = self.operand(node, order.field)
            return Sort(operand, order.descending, order.nulls_first)
        embed = self._find(node, order.relation)
        if embed is None or embed.key != order.relation:  # by its alias alone
            raise NotEmbedded(order.relation)
        if not embed.to_one:
            raise OrderNotToOne(embed.relationship.source.name, embed.key)
        spread = _spread_columns(embed) if embed.spread else []
        by_alias = (each.operand for each in spread if each.key == order.field.name)
        aliased = None if order.field.path else next(by_alias, None)
        operand = aliased or self.operand(embed.node, order.field)
        embed.hidden.append(operand)
        is_key = any(each.operand and _is_same(each.operand, operand) for each in spread)
        hidden = len(embed.hidden) - 1
        return Sort(None, order.descending, order.nulls_first, embed, hidden, is_key)

    def _at(self, root: ReadPlan, path: Path) -> ReadPlan:
        node = root
        for name in path:
            node = self._found(node, name).node
        return node

    def _found(self, node: ReadPlan, name: str) -> Embed:
        embed = self._find(node, name)
        assert embed is not None  # as `_check_path` has found
        return embed

    def _limit(self, node: ReadPlan, *, with_root: bool = True) -> None:
        if self._max_rows is not None and with_root:
            node.limit = min(self._max_rows, self._max_rows if node.limit is None else node.limit)
        for embed in node.embeds:
            self._limit(embed.node, with_root=not embed.to_one)


def _check_path(select: Iterable[SelectItem], path: Path) -> None:
    """Raise NotEmbedded where a path leads to no relation of the select."""
    for name in path:
        relations = [each for each in select if isinstance(each, SelectRelation)]
        found = [each for each in relations if (each.alias or each.name) == name]
        found += [each for each in relations if each.name == name]
        if not found:
            raise NotEmbedded(name)
        select = found[0].select


def _spread_columns(embed: Embed) -> list[OutputColumn]:
    """The columns of a spread relation whose values are the parent's keys as they are."""
    columns: list[OutputColumn] = []
    for item in embed.node.select:
        if isinstance(item, Star):
            columns += item.outputs
        elif isinstance(item, OutputColumn) and not (item.cast or item.aggregate):
            columns.append(item)
    return columns


def _is_same(one: Operand, other: Operand) -> bool:
    return (one.name, one.function, one.path) == (other.name, other.function, other.path)


def _width(node: ReadPlan) -> int:
    """How many keys come of the node where it is spread."""
    return sum(
        len(item.outputs)
        if isinstance(item, Star)
        else _width(item.node)
        if isinstance(item, Embed) and item.spread
        else 1
        for item in node.select
    )


def _is_one_row(node: ReadPlan) -> bool:
    """Whether the conditions name a row of a table by its whole primary key."""
    table = node.table
    if node.source is None or table is None or table.is_view or not table.primary_key:
        return False
    if node.embeds or node.limit == 0:
        return False
    named = {
        each.operand.name
        for each in node.conditions
        if isinstance(each, ResolvedFilter) and is_plain_equality(each.filter)
    }
    return named.issuperset(table.primary_key)


def is_plain_equality(filter: Filter) -> bool:
    """Return whether a filter is `column=eq.value`."""
    plain = not (filter.negated or filter.quantifier or filter.field.path)
    return plain and filter.operator.name == "eq"


def _last_key(field: FieldPath) -> str:
    """What a value is called: by the last word of its path."""
    words = [step.key for step in field.path if isinstance(step.key, str)]
    return words[-1] if words else field.name


def _has_aggregates(node: ReadPlan) -> bool:
    return any(
        _has_aggregates(item.node) and item.spread
        if isinstance(item, Embed)
        else isinstance(item, OutputColumn) and item.aggregate is not None
        for item in node.select
    )
