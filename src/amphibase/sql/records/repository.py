"""The SQL backend's `Repository`: the rows of one model for one caller."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    Update,
    exists,
    func,
    literal_column,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.access.conditions import Condition
from amphibase.backend import Load, Model, Order, Page, Where
from amphibase.database.compiled import Query
from amphibase.errors import (
    AmphibaseError,
    Conflict,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    NotFound,
    StaleVersion,
    Unauthenticated,
)
from amphibase.records.access_policy import Write
from amphibase.records.arguments import check_filtered, check_limit, check_offset
from amphibase.records.batch import Batch
from amphibase.records.constraints import attributes_named
from amphibase.records.many_to_many import ManyToMany
from amphibase.records.model_info import ModelInfo
from amphibase.records.ordering import Ordering
from amphibase.records.upsert import changed_names, unique_names
from amphibase.records.validators import validated
from amphibase.records.values import Row
from amphibase.sql.records.aggregate import aggregate_rows
from amphibase.sql.records.bulk_insert import insert_many
from amphibase.sql.records.changes import ChangeStatements
from amphibase.sql.records.computed import computed_values
from amphibase.sql.records.hidden_rows import log_hidden_rows
from amphibase.sql.records.insert import insert_one
from amphibase.sql.records.json_rows import SqlJsonRows, json_object
from amphibase.sql.records.limit import limited
from amphibase.sql.records.loading import count_loadable, load_related
from amphibase.sql.records.new_rows import check_new_row, check_new_rows, check_references
from amphibase.sql.records.pages import list_name, read_page
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.referrers import still_referred_to
from amphibase.sql.records.upsert import (
    change_existing,
    check_upserted_row,
    existing_row,
    upsert_one,
)

ROWS_AT_A_TIME = 1000


class SqlRepository(Generic[Model]):
    """Reads and writes the rows of one mapped class that one caller may see and change."""

    def __init__(self, info: ModelInfo[Model], builder: QueryBuilder) -> None:
        self._info = info
        self._builder = builder
        self._policy = builder.policy

    # Reading

    async def get(self, id: Any, *, load: Load = (), lock: bool = False) -> Model | None:
        if lock:
            return await self._get_locked(id, load)
        rows = await self._builder.rows(self.query_of(id))
        if not rows:
            await log_hidden_rows(self._builder, self._builder.is_(id))
        return (await self._objects(rows, load))[0] if rows else None

    async def _get_locked(self, id: Any, load: Load) -> Model | None:
        if not self._builder.executor.holds_locks:
            raise InvalidRequest("lock: only a transaction holds one; see `Backend.transaction`")
        statement = self._statements.select(self._policy.changeable, *self._builder.is_(id))
        async with self._writing("change") as connection:
            rows = [tuple(row) for row in await connection.execute(statement)]
        return (await self._objects(rows, load))[0] if rows else None

    def query_of(self, id: Any) -> Query:
        """Build the query of `get`, for a caller that sends more in the same round trip."""
        return self._builder.by_key(self._info.select, id)

    def result_of(self, rows: Sequence[Row]) -> Model | None:
        """Return what `get` returns for the executor's rows."""
        return self._info.object(rows[0]) if rows else None

    async def one(self, *where: Where, load: Load = ()) -> Model:
        rows = await self.list(*where, limit=2, load=load)
        if not rows:
            raise NotFound(f"There is no such {self._info.model.__name__}")
        if len(rows) > 1:
            raise InvalidRequest(f"More than one {self._info.model.__name__} matches")
        return rows[0]

    async def first(self, *where: Where, order_by: Order = (), load: Load = ()) -> Model | None:
        rows = await self.list(*where, order_by=order_by, limit=1, load=load)
        return rows[0] if rows else None

    async def list(
        self,
        *where: Where,
        order_by: Order = (),
        offset: int = 0,
        limit: int = 100,
        load: Load = (),
    ) -> Sequence[Model]:
        check_limit(limit)
        check_offset(offset)
        order = self._builder.ordering(order_by)
        statement = self._builder.visible(self._info.select, *where, order_by=order.clauses)
        statement = limited(statement, limit)
        if offset:
            statement = statement.offset(offset)
        rows = await self._builder.rows(self._builder.selects.query(statement))
        if not (rows or offset):
            await log_hidden_rows(self._builder, where)
        return await self._objects(rows, load)

    async def page(
        self,
        *where: Where,
        order_by: Order = (),
        cursor: str | None = None,
        limit: int = 100,
        load: Load = (),
    ) -> Page[Model]:
        order = self._builder.ordering(order_by)
        known = {*self._info.columns}
        expressions = [term.compared for term in order.terms if term.compared not in known]
        rows, list_ = await read_page(
            self._builder, self._info.select, where, order, cursor, limit, expressions
        )
        objects = self._info.objects(rows)
        if not (objects or cursor):
            await log_hidden_rows(self._builder, where)
        if load and objects:
            count = await count_loadable(objects, load, self._builder)
            if count < len(objects):
                list_ = list_name(self._builder, where, order)
                rows, objects = rows[:count], objects[:count]
            await load_related(objects, load, self._builder)
        if list_ is None:
            return Page(objects, None)
        position = order.position(self._values_of(order, expressions, rows[-1]))
        return Page(objects, self._builder.cursors.write(list_, position))

    async def stream(self, *where: Where, order_by: Order = ()) -> AsyncGenerator[Model]:
        builder = self._builder
        order = builder.ordering(order_by)
        statement = builder.visible(self._info.select, *where, order_by=order.clauses)
        options = {"yield_per": ROWS_AT_A_TIME}
        async with (
            builder.unless_refused(),
            builder.executor.reading(builder.caller) as connection,
        ):
            result = await connection.stream(statement, execution_options=options)
            try:
                async for row in result:
                    yield self._info.object(tuple(row))
            finally:  # also where it is left half-way, which its own context does not see
                await result.close()

    async def count(self, *where: Where) -> int:
        counted = select(func.count()).select_from(self._info.table)
        statement = self._builder.visible(counted, *where)
        rows = await self._builder.rows(self._builder.selects.query(statement))
        return int(rows[0][0]) if rows else 0

    async def exists(self, *where: Where) -> bool:
        any_: Select[Any] = select(literal_column("1")).select_from(self._info.table)
        statement = select(exists(self._builder.visible(any_, *where)))
        rows = await self._builder.rows(self._builder.selects.query(statement))
        return bool(rows[0][0]) if rows else False

    async def aggregate(
        self,
        *functions: Any,
        by: Sequence[Any] = (),
        where: Sequence[Where] = (),
        limit: int = 1000,
    ) -> Sequence[tuple[Any, ...]]:
        return await aggregate_rows(self._builder, functions, by, where, limit)

    def json_rows(self, names: Sequence[str]) -> SqlJsonRows | None:
        if not self._builder.executor.builds_json:
            return None
        key = ("JSON object", *names)
        if key not in self._info.cache:
            self._info.cache[key] = json_object(self._info, names)
        statement = self._info.cache[key]
        return None if statement is None else SqlJsonRows(self._builder, statement, names)

    def with_deleted(self) -> "SqlRepository[Model]":
        builder = self._builder.of(self._info, with_deleted=True)
        return SqlRepository(self._info, builder)

    # Writing

    async def add(self, row: Model) -> Model:
        values, own = self._new(row)
        seen = not self._builder.rls or self._policy.sees_new(own=own)
        async with self._writing("add") as connection:
            await check_new_row(connection, self._builder, values, own=own)
            stored = await insert_one(connection, self._builder, values, seen=seen)
            stored = await self._with_computed(connection, stored)
        return self._info.stored(row, stored)

    async def add_many(self, rows: Iterable[Model], *, atomic: bool = True) -> Sequence[Model]:
        batch = Batch(self._info, [*rows])
        if not batch:
            return []
        own = self._policy.own_all(batch.columns)
        seen = not self._builder.rls or self._policy.sees_new(own=own)
        may_copy = not self._builder.rls or self._builder.caller.role == "service_role"
        async with self._writing("add") as connection:
            addable = self._policy.addable(own=own)
            await check_new_rows(connection, self._builder, addable, batch.columns)
            await check_references(connection, self._builder, batch.columns)
            await insert_many(connection, self._builder, batch, may_copy=may_copy, seen=seen)
            batch.add_computed(await computed_values(connection, self._builder, batch.keys))
        return batch.stored()

    async def upsert(self, row: Model, *, on: Sequence[Any] = (), replace: bool = True) -> Model:
        values, own = self._new(row)
        names = unique_names(self._info, on)
        # Before the defaults that a rule reads, which the row that is there does not get.
        changed = changed_names(self._info, values, names) if replace else None
        if self._builder.may_be_refused:
            stored = await self._upsert_by_policies(values, own, names, changed)
        else:
            async with self._writing("add") as connection:
                await check_upserted_row(connection, self._builder, values, names, changed, own=own)
                stored = await upsert_one(connection, self._builder, values, names, changed)
                if stored is not None:
                    stored = await self._with_computed(connection, stored)
                elif changed is None:
                    stored = await existing_row(connection, self._builder, values, names)
        if stored is None:
            raise Conflict(columns=names)
        return self._info.stored(row, stored)

    async def _upsert_by_policies(
        self,
        values: dict[str, Any],
        own: bool,
        names: Sequence[str],
        changed: Sequence[str] | None,
    ) -> Row | None:
        """Add a row, or else change the one that is there: one statement for both would have one
        error for a row that may not be added and for one that may not be changed."""
        seen = self._policy.sees_new(own=own)
        async with self._writing("add") as connection:
            if seen:
                stored = await upsert_one(connection, self._builder, values, names, None)
            else:  # then the caller does not change what is there either
                stored = await insert_one(connection, self._builder, values, seen=False)
            if stored is not None:
                return await self._with_computed(connection, stored)
            if changed is None:
                return await existing_row(connection, self._builder, values, names)
        try:
            async with self._writing("change") as connection:
                stored = await change_existing(connection, self._builder, values, names, changed)
                return None if stored is None else await self._with_computed(connection, stored)
        except (Unauthenticated, Forbidden) as error:
            raise Conflict(columns=names) from error

    async def update(
        self, id: Any, /, *, if_version: int | None = None, **values: Any
    ) -> Model | None:
        changes = self._changes(values)
        where = [*self._builder.is_(id), *self._has_version(if_version)]
        statement: Any = self._statements.select(self._policy.changeable, *where)
        if changes:  # else the row that could be changed, as it is
            statement = self._statements.update(changes, *where).returning(*self._info.columns)
        async with self._writing(*self._policy.operations(changes)) as connection:
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                if changes:
                    await self._statements.check(connection, changes, *where)
                condition = self._statements.condition(changes)
                await self._check_unchanged(connection, id, if_version, condition)
                return None
            stored = tuple(row[: len(self._info.names)])
            stored = await self._with_computed(connection, stored)
        return self._info.object(stored)

    async def update_where(self, *where: Where, everything: bool = False, **values: Any) -> int:
        self._check_filtered(where, everything)
        changes = self._changes(values)
        if not changes:
            return 0
        async with self._writing(*self._policy.operations(changes)) as connection:
            await self._statements.check(connection, changes, *where)
            return await _rows_changed(connection, self._statements.update(changes, *where))

    async def delete(self, id: Any, *, if_version: int | None = None) -> bool:
        where = [*self._builder.is_(id), *self._has_version(if_version)]
        async with self._deleting(*where) as connection:
            deleted = await _rows_changed(connection, self._statements.delete(*where)) > 0
            if not deleted:
                condition = self._policy.deletable
                await self._check_unchanged(connection, id, if_version, condition)
        return deleted

    async def delete_where(self, *where: Where, everything: bool = False) -> int:
        self._check_filtered(where, everything)
        async with self._deleting(*where) as connection:
            return await _rows_changed(connection, self._statements.delete(*where))

    async def add_related(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        return await self._many_to_many.add(id, relationship, ids)

    async def remove_related(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        return await self._many_to_many.remove(id, relationship, ids)

    # Parts of the methods

    @property
    def _statements(self) -> ChangeStatements:
        return ChangeStatements(self._builder)

    @property
    def _many_to_many(self) -> ManyToMany:
        builder = self._builder

        def repository_of(model: type[Any]) -> SqlRepository[Any]:
            info = builder.infos.of(model, builder.caller)
            return SqlRepository(info, builder.of(info))

        return ManyToMany(self._info, builder.infos, repository_of)

    def _has_version(self, version: int | None) -> Sequence[ColumnElement[bool]]:
        return [] if version is None else [self._info.has_version(version)]

    def _check_filtered(self, where: Sequence[Where], everything: bool) -> None:
        check_filtered(where, everything)
        self._builder.check(*where)

    def _changes(self, values: dict[str, Any]) -> dict[Any, Any]:
        by_service = self._builder.caller.role == "service_role"
        return self._info.changes(validated(self._info.model, values), by_service=by_service)

    def _new(self, row: Model) -> tuple[dict[str, Any], bool]:
        """Return the values of a new row, and whether it is the caller's own."""
        values = self._info.values(row)
        return values, self._policy.own(values)

    @asynccontextmanager
    async def _writing(self, *operations: Write) -> AsyncIterator[AsyncConnection]:
        if not self._builder.rls:
            self._policy.check(*operations)
        with attributes_named(self._info):
            try:
                async with self._builder.executor.writing(self._builder.caller) as connection:
                    yield connection
            except Forbidden:
                if not self._builder.may_be_refused:
                    raise
                self._policy.deny()

    @asynccontextmanager
    async def _deleting(self, *where: Where) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for deleting rows that others may refer to."""
        try:
            async with self._writing("delete") as connection:
                yield connection
        except ForeignKeyViolation as error:
            try:
                detailed = await still_referred_to(self._builder, where)
            except (AmphibaseError, SQLAlchemyError):  # in a transaction, which the error ended
                raise error from None
            raise detailed from error

    async def _check_unchanged(
        self, connection: AsyncConnection, id: Any, if_version: int | None, condition: Condition
    ) -> None:
        """Say why a row was not changed, if the caller sees it.

        Args:
            condition: of the rows that the caller may change.

        Raises:
            StaleVersion: the caller may, and it has another version.
            Unauthenticated, Forbidden: the caller may not.
        """
        is_it = self._builder.is_(id)
        if (
            await connection.execute(self._builder.visible(self._info.select_keys, *is_it))
        ).first():
            if if_version is not None:
                # FOR UPDATE: by policies too, a row counts that the caller may change.
                changeable = self._statements.select(condition, *is_it)
                if (await connection.execute(changeable)).first() is not None:
                    raise StaleVersion
            self._policy.deny()

    async def _with_computed(self, connection: AsyncConnection, row: Row) -> Row:
        if not self._info.computed:
            return row
        key = self._info.key_of(row)
        return (*row, *(await computed_values(connection, self._builder, [key]))[0])

    async def _objects(self, rows: Sequence[Row], load: Load) -> Sequence[Model]:
        objects = self._info.objects(rows)
        if load and objects:
            await load_related(objects, load, self._builder)
        return objects

    def _values_of(self, order: Ordering, expressions: Sequence[Any], row: Row) -> Sequence[Any]:
        beyond = dict(zip(map(id, expressions), row[len(self._info.loaded_names) :], strict=True))
        own = dict(zip(map(id, self._info.columns), row, strict=False))
        return [{**own, **beyond}[id(term.compared)] for term in order.terms]


async def _rows_changed(connection: AsyncConnection, statement: Update | Delete) -> int:
    """Run a statement and return how many rows it changed."""
    changed = (await connection.execute(statement)).rowcount
    if changed < 0:  # sqlite3 does not count for a statement that begins with WITH
        changed = (await connection.execute(select(func.changes()))).scalar_one()
    return changed
