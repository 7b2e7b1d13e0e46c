"""SQLAlchemy's expressions as filters of PostgREST: the way back of `records/filters/expressions`.

What PostgREST has no filter for raises `NotSupported`, which names the expression; nothing is sent
then.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Exists, Table
from sqlalchemy.sql import operators as sql
from sqlalchemy.sql.elements import (
    AsBoolean,
    BinaryExpression,
    BooleanClauseList,
    ClauseElement,
    CollectionAggregate,
    False_,
    True_,
    UnaryExpression,
)

from amphibase.records.filters.operators import OPERATORS, TRUTHS
from amphibase.records.filters.tree import Condition, FieldPath, Filter, Logic, Path, Value
from amphibase.search import SearchMatch
from amphibase.supabase.records.comparisons import (
    NEGATIONS,
    FieldComparison,
    contains_value,
    negated,
    search_filter,
)
from amphibase.supabase.records.fields import field_path, unsupported, unwrapped
from amphibase.supabase.records.relations import Step, related_rows

Visible = Callable[[Table], Sequence[ClauseElement] | None]
"""Of a related table, the conditions of the rows that the caller sees; None where they see none.
Raises NotSupported where no model declares it."""


class JoinedRelation(NamedTuple):
    """A relation that is joined to rows, to filter them by it or to load it with them.

    Attributes:
        alias: its name in the request.
        inner: the relations that are joined to its own rows.
        select: the columns that come back, as `select=` takes them.
    """

    alias: str
    step: Step
    inner: "list[JoinedRelation]"
    select: str = ""


class Filters:
    """The filters of one request.

    Attributes:
        conditions: each with the relation whose rows it filters; () is the table itself.
        values: those that the conditions' positions point at.
        embeds: the relations that the conditions need, and those that are loaded.
        orders: of the relations, as parameters.
    """

    def __init__(self) -> None:
        self.conditions: list[tuple[Path, Condition]] = []
        self.values: list[Value] = []
        self.embeds: list[JoinedRelation] = []
        self.orders: list[tuple[str, str]] = []
        self._aliases = 0

    def copy(self) -> "Filters":
        """Return the same filters, to which others can be added."""
        filters = Filters()
        filters.conditions, filters.values = [*self.conditions], [*self.values]
        filters.embeds, filters.orders = [*self.embeds], self.orders
        filters._aliases = self._aliases
        return filters

    def next_alias(self) -> str:
        """Return a name that no other relation of the request has."""
        self._aliases += 1
        return f"_{self._aliases}"


class FilterBuilder:
    """Makes filters of the expressions of one table.

    Args:
        filters: the filters are added to these.
        visible: what the caller sees of other tables.
        path: the relation whose rows are filtered; () is the request's own table.
        embeds: the relations that are joined to its rows.
    """

    def __init__(
        self,
        table: Table,
        filters: Filters,
        visible: Visible,
        path: Path = (),
        embeds: list[JoinedRelation] | None = None,
    ) -> None:
        self._table = table
        self._filters = filters
        self._visible = visible
        self._path = path
        self._embeds = filters.embeds if embeds is None else embeds

    def add(self, *expressions: Any) -> None:
        """Add expressions that have to hold together.

        Raises:
            NotSupported: PostgREST has no filter for one; names it.
            InvalidValue: a value is none of its column's.
        """
        for expression in expressions:
            self._add(self._condition(expression))

    def _add(self, condition: Condition) -> None:
        if isinstance(condition, Logic) and condition.operator == "and" and not condition.negated:
            for part in condition.conditions:
                self._add(part)
        else:
            self._filters.conditions.append((self._path, condition))

    def _condition(self, element: Any) -> Condition:
        element = unwrapped(element)
        match element:
            case BooleanClauseList():
                members = tuple(map(self._condition, element.clauses))
                return Logic("and" if element.operator is sql.and_ else "or", members)
            case Exists():
                related = related_rows(element, self._table)
                if related is None:
                    raise unsupported(element)
                return self._related(related.steps, related.criteria)
            case AsBoolean():
                condition = self._condition(element.element)
                return condition if element.operator is sql.is_true else negated(condition)
            case UnaryExpression() if element.operator is sql.inv:
                return negated(self._condition(element.element))
            case True_():
                return negated(self._never())
            case False_():
                return self._never()
            case BinaryExpression():
                return self._comparison(element)
            case SearchMatch():
                return search_filter(element, self._table, self._filters.values)
        return self._truth(element)

    def _comparison(self, element: BinaryExpression[Any]) -> Condition:
        values, operator = self._filters.values, element.operator
        is_aggregate = isinstance(element.right, CollectionAggregate)
        if is_aggregate and operator is sql.eq and field_path(element.left, self._table) is None:
            return contains_value(element, self._table, values)
        opposite = NEGATIONS.get(operator)
        comparison = FieldComparison(element, opposite or operator, self._table, values)
        condition = comparison.condition()
        return condition if opposite is None else negated(condition)

    def _truth(self, element: Any) -> Condition:
        """A column of booleans, by itself."""
        field = field_path(element, self._table)
        if field is None or not isinstance(element.type, Boolean):
            raise unsupported(element)
        self._filters.values.append("true")
        return Filter(field, OPERATORS["eq"], len(self._filters.values) - 1)

    def _never(self) -> Condition:
        """A condition that holds for no row, and is not NULL for one."""
        (key, *_) = self._table.primary_key.columns
        self._filters.values.append([])
        return Filter(FieldPath(key.name), OPERATORS["in"], len(self._filters.values) - 1)

    def _related(self, steps: Sequence[Step], criteria: Sequence[Any]) -> Condition:
        """Whether there are related rows: a relation that is joined, and not empty."""
        step, *further = steps
        visible = self._visible(step.table)
        if visible is None:
            return self._never()
        embed = JoinedRelation(self._filters.next_alias(), step, [])
        self._embeds.append(embed)
        path = (*self._path, embed.alias)
        inner = FilterBuilder(step.table, self._filters, self._visible, path, embed.inner)
        inner.add(*visible)
        if further:
            inner._add(inner._related(further, criteria))
        else:
            inner.add(*criteria)
        return Filter(FieldPath(embed.alias), OPERATORS["is"], negated=True, truth=TRUTHS["null"])
