"""What reading a model's rows is made of, whether objects or documents come of it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, literal_column
from sqlalchemy.sql.elements import ClauseElement, Grouping

from amphibase.backend import MAX_LIMIT, Caller, Order, Where
from amphibase.database.compiled import Plan, Plans, Query, Row
from amphibase.database.executor import Executor
from amphibase.errors import Forbidden, InvalidRequest
from amphibase.records.cursors import Cursors
from amphibase.sql.records.access_policy import CALLER, AccessPolicy
from amphibase.sql.records.model_info import ModelInfo
from amphibase.sql.records.ordering import Ordering, ordering


class QueryBuilder:
    """Asks for rows of one model, as one caller may see them.

    Args:
        rls: whether policies of the database decide what that is; else a predicate does.
        with_deleted: whether rows that were deleted softly are there.
    """

    def __init__(
        self,
        info: ModelInfo[Any],
        caller: Caller,
        executor: Executor,
        plans: Plans,
        cursors: Cursors,
        *,
        rls: bool,
        with_deleted: bool = False,
    ) -> None:
        self.info = info
        self.caller = caller
        self.executor = executor
        self.plans = plans
        self.cursors = cursors
        self.rls = rls
        self.policy = AccessPolicy(info, caller, by_database=rls, with_deleted=with_deleted)

    @property
    def may_be_refused(self) -> bool:
        """Whether it is in order that the database refuses: the caller has no right to a table, as
        its model declares. To anybody else, its refusal says that it is not set up as it should."""
        return self.rls and self.caller.role != "service_role"

    def beside(self, info: ModelInfo[Any], *, with_deleted: bool = False) -> "QueryBuilder":
        """The same caller's builder of another model."""
        return QueryBuilder(
            info,
            self.caller,
            self.executor,
            self.plans,
            self.cursors,
            rls=self.rls,
            with_deleted=with_deleted,
        )

    def visible(self, statement: Select[Any], *where: Where) -> Select[Any]:
        """The statement, limited to what matches and the caller may see. Raises InvalidRequest."""
        readable = self.policy.readable
        if readable is not None:
            statement = statement.where(readable)
        return statement.where(*enclosed(where)) if where else statement

    def check(self, *where: Where) -> None:
        """Raises InvalidRequest or InvalidValue for filters that `visible` and `rows` refuse."""
        self.plans.query(self.visible(self.info.select_keys, *where))

    def order(self, order_by: Order) -> Ordering:
        """The order that was asked for. Raises InvalidRequest."""
        return ordering(order_by, self.info.newest_first, self.info.keys)

    def is_(self, id: Any) -> Sequence[ColumnElement[bool]]:
        """Whether a row has that primary key. Raises InvalidValue."""
        values = self.info.key_values(id)
        return [key == value for key, value in zip(self.info.keys, values, strict=True)]

    def by_key(self, statement: Select[Any], id: Any) -> Query:
        """A query for the row with that primary key.

        Args:
            statement: one that is kept: its plan is made once for each kind of caller.
        """
        info = self.info
        kept = (statement, self.policy.kind)
        plan = info.kept.get(kept)
        if plan is None:
            is_it = [
                key == bindparam(name, type_=key.type)
                for name, key in zip(info.key_parameters, info.keys, strict=True)
            ]
            plan = info.kept[kept] = Plan(self.visible(statement, *is_it))
        values = dict(zip(info.key_parameters, info.key_values(id), strict=True))
        values[CALLER] = self.caller.user_id
        return Query(plan, values)

    async def page(
        self,
        statement: Select[Any],
        where: Sequence[Where],
        order: Ordering,
        cursor: str | None,
        limit: int,
    ) -> tuple[Sequence[Row], str]:
        """The rows of a page, with one more where the list goes on; and the name of the list.

        Raises:
            InvalidCursor: not a cursor of this list.
            InvalidRequest: the limit is out of range.
        """
        check_limit(limit)
        # The list is the same whatever is selected of its rows.
        named = self.visible(self.info.select_keys, *where).order_by(*order.clauses)
        list_ = self.plans.query(named).fingerprint()
        statement = self.visible(statement, *where).order_by(*order.clauses)
        if cursor is not None:
            statement = statement.where(order.after(self.cursors.read(list_, cursor)))
        return await self.rows(self.plans.query(limited(statement, limit + 1))), list_

    async def rows(self, query: Query) -> Sequence[Row]:
        """The rows of a query."""
        try:
            (rows,) = await self.executor.fetch(self.caller, query)
        except Forbidden:
            if not self.may_be_refused:
                raise
            return []
        return rows


def enclosed(where: Sequence[Where]) -> Sequence[ColumnElement[bool]]:
    """The filters, each in parentheses: one may hold text with an OR, which must not reach around
    the access predicate beside it. Raises InvalidRequest for what is no filter."""
    for each in where:
        if not isinstance(each, ClauseElement):
            raise InvalidRequest("A filter was expected, as in Note.stars > 3")
    return [Grouping(each) for each in where]


def limited(statement: Select[Any], limit: int) -> Select[Any]:
    """The statement with a LIMIT that is written out: with a bound one, Postgres plans every query
    anew."""
    return statement.limit(literal_column(str(limit)))


def check_limit(limit: int) -> None:
    """Raises InvalidRequest for a limit that is out of range."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit: 1 to {MAX_LIMIT} was expected, not {limit}")
