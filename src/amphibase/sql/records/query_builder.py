"""Builds and runs the queries of one model for one caller."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    select,
)
from sqlalchemy.sql.elements import ClauseElement, Grouping

from amphibase.access.caller import CALLER
from amphibase.backend import SERVICE, Caller, Order, Where
from amphibase.database.compiled import CompiledSelect, Query, SelectCache
from amphibase.database.executor import Executor
from amphibase.errors import (
    Forbidden,
    InvalidValue,
    UnreadableValue,
)
from amphibase.records.access_policy import AccessPolicy
from amphibase.records.arguments import check_filters
from amphibase.records.cursors import Cursors
from amphibase.records.model_info import ModelInfo
from amphibase.records.model_infos import ModelInfos
from amphibase.records.ordering import Ordering, ordering
from amphibase.records.predicates import values_read
from amphibase.records.values import Row
from amphibase.sql.records.patterns import check_patterns
from amphibase.sql.records.searches import by_index
from amphibase.sql.records.statement_tables import StatementTables, computed_reads


class QueryBuilder:
    """Builds queries for the rows of one model that one caller may see.

    Args:
        infos: of the models that filters and relationships lead to.
        rls: whether policies of the database decide what is visible; else a predicate does.
        max_page_bytes: what the rows of a page may have together, if it has more than one.
        logs_hidden_rows: whether an empty result that a rule caused is logged.
        with_deleted: whether softly deleted rows of the model are visible.
    """

    def __init__(
        self,
        info: ModelInfo[Any],
        infos: ModelInfos,
        caller: Caller,
        executor: Executor,
        selects: SelectCache,
        cursors: Cursors,
        *,
        rls: bool,
        max_page_bytes: int,
        logs_hidden_rows: bool = False,
        with_deleted: bool = False,
    ) -> None:
        self.info = info
        self.infos = infos
        self.caller = caller
        self.executor = executor
        self.selects = selects
        self.cursors = cursors
        self.rls = rls
        self.max_page_bytes = max_page_bytes
        self.logs_hidden_rows = logs_hidden_rows
        self.policy = AccessPolicy(info, caller, by_database=rls, with_deleted=with_deleted)

    @property
    def may_be_refused(self) -> bool:
        """Whether the database may deny the caller a table, as its model declares. To the service,
        such an error says that the database is not set up."""
        return self.rls and self.caller.role != "service_role"

    def of(self, info: ModelInfo[Any], *, with_deleted: bool = False) -> "QueryBuilder":
        """Return the same caller's builder for another model."""
        return self._for(self.caller, info, with_deleted=with_deleted)

    def as_service(self) -> "QueryBuilder":
        """Return the service's builder for the same model."""
        info = self.infos.of(self.info.model, SERVICE)
        return self._for(SERVICE, info, with_deleted=self.policy.with_deleted)

    def _for(self, caller: Caller, info: ModelInfo[Any], *, with_deleted: bool) -> "QueryBuilder":
        return QueryBuilder(
            info,
            self.infos,
            caller,
            self.executor,
            self.selects,
            self.cursors,
            rls=self.rls,
            max_page_bytes=self.max_page_bytes,
            logs_hidden_rows=self.logs_hidden_rows,
            with_deleted=with_deleted,
        )

    def visible(
        self,
        statement: Select[Any],
        *where: Where,
        order_by: Sequence[ColumnElement[Any]] = (),
        reads: Sequence[ClauseElement] = (),
        of_one: bool = False,
    ) -> Select[Any]:
        """Limit a statement to the rows that match and that the caller may see.

        Args:
            order_by: the clauses of its ORDER BY.
            reads: other tables in it that are limited, too.
            of_one: whether at most one row matches.

        Raises:
            InvalidRequest: a filter is not an expression.
            NotSupported: an expression reads a table that has no declared access.
        """
        filters = enclosed(self._by_index(where))
        own = self.tables(*where, *order_by, *reads, of_one=of_one)
        statement = statement.where(*own.where(self.policy.readable), *filters)
        if order_by:
            statement = statement.order_by(*order_by)
        return own.restrict(statement)

    def _by_index(self, where: Sequence[Where]) -> Sequence[Where]:
        """Return filters that have the search indexes read, which policies keep Postgres from."""
        if not (self.may_be_refused and where):
            return where
        check_filters(where)
        return [*by_index(self.info, self.caller.role, where)]

    def tables(self, *expressions: ClauseElement, of_one: bool = False) -> StatementTables:
        """Return the tables that a statement reads.

        Args:
            expressions: the parts of the statement that the application wrote.
            of_one: whether at most one row matches.

        Raises:
            NotSupported: an expression reads a table that has no declared access.
        """
        return StatementTables(self.policy, self.infos, self._policy_of, expressions, of_one=of_one)

    def _policy_of(self, model: type[Any]) -> AccessPolicy:
        return self.of(self.infos.of(model, self.caller)).policy

    def check(self, *where: Where) -> None:
        """Raise InvalidRequest or InvalidValue for filters that `visible` and `rows` reject."""
        self.selects.query(self.visible(self.info.select_keys, *where))

    def ordering(self, order_by: Order) -> Ordering:
        """Build the order of a list. Raises InvalidRequest."""
        if not order_by:
            return self.newest_first
        return ordering(order_by, self.info.newest_first, self.info.keys, self.infos.dialect)

    @property
    def newest_first(self) -> Ordering:
        """The order of lists that have no other."""
        cache = self.info.cache
        if "newest first" not in cache:
            order = ordering((), self.info.newest_first, self.info.keys, self.infos.dialect)
            cache["newest first"] = order
        newest_first: Ordering = cache["newest first"]
        return newest_first

    def is_(self, id: Any) -> Sequence[ColumnElement[bool]]:
        """Build the conditions that a row has that primary key. Raises InvalidValue."""
        values = self.info.key_values(id)
        return [key == value for key, value in zip(self.info.keys, values, strict=True)]

    def by_key(self, statement: Select[Any], id: Any) -> Query:
        """Build a query for the row with that primary key.

        Args:
            statement: a constant, whose plan is cached for each kind of caller.
        """
        info = self.info
        key = (statement, self.policy.kind)
        plan = info.cache.get(key)
        if plan is None:
            is_it = [
                key == bindparam(name, type_=key.type)
                for name, key in zip(info.key_parameters, info.keys, strict=True)
            ]
            plan = info.cache[key] = CompiledSelect(self.visible(statement, *is_it, of_one=True))
        values = self.caller_values
        values.update(zip(info.key_parameters, info.key_values(id), strict=True))
        return Query(plan, values)

    @property
    def caller_values(self) -> dict[str, Any]:
        """The values of the caller in a statement without expressions of the application."""
        caller, cache = self.caller, self.info.cache
        read = cache.get("caller values")
        if read is None:
            names = computed_reads(self.info).tables
            models = [model for name in names for model in self.infos.models_of(name)]
            accesses = [
                self.info.access,
                *(self.infos.of(model, caller).access for model in models),
            ]
            values = [value for each in accesses for value in values_read(each.read).values()]
            read = cache["caller values"] = tuple(values)
        bound: dict[str, Any] = {CALLER: caller.user_id}
        for value in read:
            bound[value.name] = value.read(caller.user_id, caller.claims)
        return bound

    async def rows(self, query: Query) -> Sequence[Row]:
        """Fetch the rows of a query. Raises UnreadableValue."""
        try:
            return await self._fetch(query)
        except (InvalidValue, ValueError) as error:
            if not _is_from_reading(error):
                raise
            raise await self._unreadable_value(query) from error

    async def _unreadable_value(self, query: Query) -> UnreadableValue:
        """Build the error that names the first value of a query that cannot be read."""
        info = self.info
        keys = self.selects.query(query.select.with_only_columns(*info.keys))
        rows = await self._fetch(keys._replace(values=query.values))
        while len(rows) > 1:
            half = rows[: len(rows) // 2]
            chosen = info.has_key_in([tuple(row) for row in half])
            is_readable = await self._is_readable(info.select.where(chosen))
            rows = rows[len(half) :] if is_readable else half
        for row in rows:
            columns = zip(info.loaded_names, [*info.columns, *info.computed], strict=True)
            for name, column in columns:
                if not await self._is_readable(select(column).where(*self.is_(tuple(row)))):
                    key = ", ".join(map(str, row))
                    return UnreadableValue(
                        f"{name} of {info.model.__name__} {key} holds a value that cannot be read"
                    )
        return UnreadableValue()

    async def _is_readable(self, statement: Select[Any]) -> bool:
        try:
            await self._fetch(self.selects.query(self.visible(statement)))
        except (InvalidValue, ValueError):
            return False
        return True

    async def _fetch(self, query: Query) -> Sequence[Row]:
        if self._is_expected_to_be_refused:
            async with self.unless_refused():
                (rows,) = await self.executor.fetch(self.caller, query)
                return rows
            return []
        try:  # as `unless_refused`, without the price of a block for each row by id
            (rows,) = await self.executor.fetch(self.caller, query)
        except Forbidden:
            if self._is_final_refusal:
                raise
            return []
        return rows

    @asynccontextmanager
    async def unless_refused(self) -> AsyncIterator[None]:
        """End the block, and no transaction around it, where it reads a table that the model's
        declaration grants the caller no right to.

        Raises:
            Forbidden: the error of the database has another reason, and ended the transaction.
        """
        is_expected = self._is_expected_to_be_refused
        try:
            async with self.executor.nested() if is_expected else nullcontext():
                yield
        except Forbidden:
            if not is_expected and self._is_final_refusal:
                raise

    @property
    def _is_expected_to_be_refused(self) -> bool:
        return self.may_be_refused and not self.policy.may_select

    @property
    def _is_final_refusal(self) -> bool:
        return self.executor.holds_locks or not self.may_be_refused


def _is_from_reading(error: Exception) -> bool:
    # From a value that was read, not from one that was sent: the server has no code for it.
    if isinstance(error, InvalidValue):
        return getattr(error.__cause__, "sqlstate", "") is None
    return True


def enclosed(where: Sequence[Where]) -> Sequence[ColumnElement[bool]]:
    """Put each filter in parentheses: text with an OR must not reach around the access predicate
    beside it.

    Raises:
        InvalidRequest: one is not an expression.
        InvalidValue: one has a pattern that Postgres rejects.
    """
    check_filters(where)
    check_patterns(where)
    return [Grouping(each) for each in where]
