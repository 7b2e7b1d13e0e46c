"""Rows of an application's models in an SQL home: `backend.Repository` for one caller."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic

from sqlalchemy import ColumnElement, Select, delete, exists, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.backend import Load, Model, Order, Page, Where
from amphibase.database.compiled import Query, Row
from amphibase.database.errors import rejected_value_message
from amphibase.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    InvalidValue,
    NotFound,
    StaleVersion,
    Unauthenticated,
)
from amphibase.models import utc_now
from amphibase.sql.records.batch import Batch
from amphibase.sql.records.bulk import insert_many
from amphibase.sql.records.documents import SqlDocuments, document
from amphibase.sql.records.inserts import insert_one, upsert_one
from amphibase.sql.records.loading import fill
from amphibase.sql.records.order import Ordering
from amphibase.sql.records.reader import Reader, check_limit, enclosed, limited
from amphibase.sql.records.shape import Shape, Shapes

MAX_OFFSET = 2**31 - 1
ROWS_AT_A_TIME = 1000


class SqlRepository(Generic[Model]):
    """The rows of one mapped class, as one caller may see and change them.

    Args:
        shapes: of the models that rows are related to.
    """

    def __init__(self, shape: Shape[Model], reader: Reader, shapes: Shapes) -> None:
        self._shape = shape
        self._reader = reader
        self._shapes = shapes
        self._visibility = reader.visibility

    # Reading

    async def get(self, id: Any, *, load: Load = ()) -> Model | None:
        rows = await self._reader.rows(self.query_of(id))
        return (await self._objects(rows, load))[0] if rows else None

    def query_of(self, id: Any) -> Query:
        """What `get` asks the executor, for whoever asks more in the same round trip."""
        return self._reader.by_key(self._shape.select, id)

    def answer_of(self, rows: Sequence[Row]) -> Model | None:
        """What `get` makes of the executor's rows."""
        return self._shape.object(rows[0]) if rows else None

    async def one(self, *where: Where, load: Load = ()) -> Model:
        found = await self.list(*where, limit=2, load=load)
        if not found:
            raise NotFound(f"There is no such {self._shape.model.__name__}")
        if len(found) > 1:
            raise InvalidRequest(f"More than one {self._shape.model.__name__} matches")
        return found[0]

    async def first(self, *where: Where, order_by: Order = (), load: Load = ()) -> Model | None:
        found = await self.list(*where, order_by=order_by, limit=1, load=load)
        return found[0] if found else None

    async def list(
        self,
        *where: Where,
        order_by: Order = (),
        offset: int = 0,
        limit: int = 100,
        load: Load = (),
    ) -> Sequence[Model]:
        check_limit(limit)
        if not 0 <= offset <= MAX_OFFSET:
            raise InvalidRequest(f"offset: 0 to {MAX_OFFSET} was expected, not {offset}")
        statement = self._reader.visible(self._shape.select, *where)
        statement = limited(statement.order_by(*self._reader.order(order_by).clauses), limit)
        if offset:
            statement = statement.offset(offset)
        rows = await self._reader.rows(self._reader.plans.query(statement))
        return await self._objects(rows, load)

    async def page(
        self,
        *where: Where,
        order_by: Order = (),
        cursor: str | None = None,
        limit: int = 100,
        load: Load = (),
    ) -> Page[Model]:
        order = self._reader.order(order_by)
        known = {*self._shape.columns}
        expressions = [term.by for term in order.terms if term.by not in known]
        statement = self._shape.select.add_columns(*expressions)
        rows, list_ = await self._reader.page(statement, where, order, cursor, limit)
        objects = await self._objects(rows[:limit], load)
        if len(rows) <= limit:
            return Page(objects, None)
        position = order.position(self._values_of(order, expressions, rows[limit - 1]))
        return Page(objects, self._reader.cursors.write(list_, position))

    async def stream(self, *where: Where, order_by: Order = ()) -> AsyncGenerator[Model]:
        reader = self._reader
        statement = reader.visible(self._shape.select, *where)
        statement = statement.order_by(*reader.order(order_by).clauses)
        options = {"yield_per": ROWS_AT_A_TIME}
        try:
            async with reader.executor.reading(reader.caller) as connection:
                result = await connection.stream(statement, execution_options=options)
                try:
                    async for row in result:
                        yield self._shape.object(tuple(row))
                finally:  # also where it is left half-way, which its own context does not see
                    await result.close()
        except Forbidden:
            if not reader.may_be_refused:
                raise

    async def count(self, *where: Where) -> int:
        counted = select(func.count()).select_from(self._shape.table)
        statement = self._reader.visible(counted, *where)
        rows = await self._reader.rows(self._reader.plans.query(statement))
        return int(rows[0][0]) if rows else 0

    async def exists(self, *where: Where) -> bool:
        any_: Select[Any] = select(literal_column("1")).select_from(self._shape.table)
        statement = select(exists(self._reader.visible(any_, *where)))
        rows = await self._reader.rows(self._reader.plans.query(statement))
        return bool(rows[0][0]) if rows else False

    def documents(self, names: Sequence[str]) -> SqlDocuments | None:
        if not self._reader.executor.builds_json:
            return None
        kept = ("document", *names)
        if kept not in self._shape.kept:
            self._shape.kept[kept] = document(self._shape, names)
        built = self._shape.kept[kept]
        return None if built is None else SqlDocuments(self._reader, built, names)

    def with_deleted(self) -> "SqlRepository[Model]":
        reader = self._reader.beside(self._shape, with_deleted=True)
        return SqlRepository(self._shape, reader, self._shapes)

    # Writing

    async def add(self, row: Model) -> Model:
        values = self._new(row)
        seen = not self._reader.rls or self._visibility.sees(values)
        async with self._writing() as connection:
            stored = await insert_one(connection, self._shape, values, seen=seen)
        return self._shape.stored(row, stored)

    async def add_many(self, rows: Iterable[Model]) -> Sequence[Model]:
        batch = Batch(self._shape, [*rows])
        if batch:
            self._visibility.own_all(batch.columns)
        may_copy = not self._reader.rls or self._reader.caller.role == "service_role"
        async with self._writing() as connection:
            await insert_many(connection, batch, may_copy=may_copy)
        return batch.stored()

    async def upsert(self, row: Model, *, on: Sequence[Any] = (), replace: bool = True) -> Model:
        values = self._new(row)
        names = [getattr(column, "key", column) for column in on] or [*self._shape.key_names]
        for name in names:
            if name not in self._shape.column_of:
                message = f"{name}: {self._shape.model.__name__} has no such column"
                raise InvalidValue(message, field=name)
        if not self._shape.unique(names):
            raise InvalidRequest(f"on: nothing keeps {', '.join(names)} unique")
        stored: Any = None
        with self._taken(names):
            async with self._writing() as connection:
                # A row that was deleted softly comes back.
                there = self._reader.beside(self._shape, with_deleted=True).visibility
                writable = there.writable if replace else None
                if replace and self._reader.rls and not self._visibility.sees(values):
                    # Policies let nothing come back, nor what is there be changed.
                    stored = await insert_one(connection, self._shape, values, seen=False)
                else:
                    stored = await upsert_one(
                        connection, self._shape, values, names, writable, replace
                    )
                if stored is None and not replace:
                    # Read in a statement of its own, as the caller may see it.
                    same = [self._shape.column_of[name] == values.get(name) for name in names]
                    found = self._reader.visible(self._shape.select, *same)
                    stored = (await connection.execute(found)).one_or_none()
        if stored is None:
            raise Conflict(columns=names)
        return self._shape.stored(row, tuple(stored))

    async def update(
        self, id: Any, /, *, if_version: int | None = None, **values: Any
    ) -> Model | None:
        changes = self._changes(values)
        condition = self._may_write(*self._reader.is_(id), *self._has_version(if_version))
        statement: Any = self._shape.select.where(*condition).with_for_update()
        if changes:  # else the row that could be changed, as it is
            statement = (
                update(self._shape.table)
                .where(*condition)
                .values({**changes, **self._shape.counted_up()})
                .returning(*self._shape.columns)
            )
        row = None
        async with self._changing() as connection:
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                await self._check_version(connection, id, if_version)
        return self._shape.object(tuple(row)) if row else None

    async def update_where(self, *where: Where, everything: bool = False, **values: Any) -> int:
        self._check_filtered(where, everything)
        changes = self._changes(values)
        if not changes:
            return 0
        statement = (
            update(self._shape.table)
            .where(*self._may_write(*where))
            .values({**changes, **self._shape.counted_up()})
        )
        async with self._changing() as connection:
            return (await connection.execute(statement)).rowcount
        return 0

    async def delete(self, id: Any, *, if_version: int | None = None) -> bool:
        statement = self._deletion(*self._reader.is_(id), *self._has_version(if_version))
        deleted = False
        async with self._changing() as connection:
            deleted = (await connection.execute(statement)).rowcount > 0
            if not deleted:
                await self._check_version(connection, id, if_version)
        return deleted

    async def delete_where(self, *where: Where, everything: bool = False) -> int:
        self._check_filtered(where, everything)
        async with self._changing() as connection:
            return (await connection.execute(self._deletion(*where))).rowcount
        return 0

    # What the methods are made of

    def _has_version(self, version: int | None) -> Sequence[ColumnElement[bool]]:
        return [] if version is None else [self._shape.has_version(version)]

    def _may_write(self, *where: Where) -> Sequence[ColumnElement[bool]]:
        writable = self._visibility.writable
        return [*enclosed(where), *(() if writable is None else (writable,))]

    def _deletion(self, *where: Where) -> Any:
        condition = self._may_write(*where)
        if self._shape.deleted_at is None or self._visibility.with_deleted:
            return delete(self._shape.table).where(*condition)
        changes = {self._shape.deleted_at: utc_now(), **self._shape.counted_up()}
        return update(self._shape.table).where(*condition).values(changes)

    def _check_filtered(self, where: Sequence[Where], everything: bool) -> None:
        if not where and not everything:
            raise InvalidRequest("There is no filter; say everything=True if every row is meant")
        self._reader.check(*where)

    def _changes(self, values: dict[str, Any]) -> dict[Any, Any]:
        return self._shape.changes(values, by_service=self._reader.caller.role == "service_role")

    def _new(self, row: Model) -> dict[str, Any]:
        values = self._shape.values(row)
        self._visibility.own(values)
        return values

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        self._visibility.check_writes()
        try:
            async with self._reader.executor.writing(self._reader.caller) as connection:
                yield connection
        except Forbidden:
            if not self._reader.may_be_refused:
                raise
            self._visibility.refuse()
        except Conflict as error:
            # Policies hide what was there, but not the constraint.
            columns = self._shape.attributes(error.columns) or self._shape.unique_by(
                error.constraint
            )
            raise Conflict(columns=columns, constraint=error.constraint) from error
        except InvalidValue as error:
            (name,) = self._shape.attributes([error.field or ""])
            if name in ("", error.field):
                raise
            raise InvalidValue(rejected_value_message(name), field=name) from error

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        """For rows that are there already: those that the caller may not see are not."""
        try:
            async with self._writing() as connection:
                yield connection
        except (Unauthenticated, Forbidden):
            if not (self._reader.rls and self._visibility.may_write):
                raise

    @contextmanager
    def _taken(self, names: Sequence[str]) -> Iterator[None]:
        """For a row whose place is taken by one that policies keep from the caller."""
        try:
            yield
        except (Unauthenticated, Forbidden) as error:
            if self._reader.rls and self._visibility.may_add:
                raise Conflict(columns=names) from error
            raise

    async def _check_version(
        self, connection: AsyncConnection, id: Any, if_version: int | None
    ) -> None:
        if if_version is None:
            return
        # FOR UPDATE: by policies too, a row counts that the caller may change.
        there: Select[Any] = select(literal_column("1")).select_from(self._shape.table)
        there = there.where(*self._may_write(*self._reader.is_(id))).with_for_update()
        if (await connection.execute(there)).first() is not None:
            raise StaleVersion

    async def _objects(self, rows: Sequence[Row], load: Load) -> Sequence[Model]:
        objects = [self._shape.object(row) for row in rows]
        if load and objects:
            await fill(self._shape, objects, load, self._reader, self._shapes)
        return objects

    def _values_of(self, order: Ordering, expressions: Sequence[Any], row: Row) -> Sequence[Any]:
        beyond = dict(zip(map(id, expressions), row[len(self._shape.columns) :], strict=True))
        own = dict(zip(map(id, self._shape.columns), row, strict=False))
        return [{**own, **beyond}[id(term.by)] for term in order.terms]
