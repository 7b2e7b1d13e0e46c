"""Rows of an application's models in an SQL home."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, delete, select, tuple_, update
from sqlalchemy import inspect as inspect_model
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_state

from amphibase.backend import Model, Page
from amphibase.cursors import Cursors
from amphibase.sql.engine import Database
from amphibase.sql.plan import Executor, Plan, Query, Row


class SqlRepository(Generic[Model]):
    """The rows of one mapped class, for the service.

    Args:
        executor: runs `get`, the read that most requests wait for.
    """

    def __init__(
        self, model: type[Model], database: Database, executor: Executor, cursors: Cursors
    ) -> None:
        self._database = database
        self._executor = executor
        self._cursors = cursors
        mapper: Mapper[Model] = inspect_model(model)
        self._mapper = mapper
        self._table: Any = mapper.local_table
        self._columns = [attribute.columns[0] for attribute in mapper.column_attrs]
        self._keys = [attribute.key for attribute in mapper.column_attrs]
        (self._id,) = mapper.primary_key
        self._id_index = [column is self._id for column in self._columns].index(True)
        self._select = select(*self._columns)
        self._get = Plan(self._select.where(self._id == bindparam("id")))

    async def get(self, id: Any) -> Model | None:
        (rows,) = await self._executor.fetch(self.query_of(id))
        return self.answer_of(rows)

    def query_of(self, id: Any) -> Query:
        """What `get` asks the executor, for whoever asks more in the same round trip."""
        return Query(self._get, {"id": id})

    def answer_of(self, rows: Sequence[Row]) -> Model | None:
        """What `get` makes of the executor's rows."""
        return self._object(rows[0]) if rows else None

    async def first(self, *where: ColumnElement[bool]) -> Model | None:
        rows = await self._rows(self._newest_first(self._select.where(*where)).limit(1))
        return self._object(rows[0]) if rows else None

    async def page(
        self, *where: ColumnElement[bool], cursor: str | None = None, limit: int = 100
    ) -> Page[Model]:
        statement = self._select.where(*where)
        query = self._name_of(statement)
        order = (self._table.c.created_at, self._id)
        if cursor is not None:
            created_at, id = self._cursors.read(query, cursor)
            position = (datetime.fromisoformat(created_at), UUID(id))
            statement = statement.where(tuple_(*order) < tuple_(*position))
        rows = await self._rows(self._newest_first(statement).limit(limit + 1))
        items = [self._object(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        last: Any = items[-1]
        position_after = [last.created_at.isoformat(), str(last.id)]
        return Page(items, self._cursors.write(query, position_after))

    async def upsert(self, row: Model) -> Model:
        values = {key: row.__dict__[key] for key in self._keys if key in row.__dict__}
        dialect = sqlite if self._database.dialect == "sqlite" else postgresql
        statement = (
            dialect.insert(self._table)
            .values(values)
            .on_conflict_do_nothing(index_elements=[self._id])
        )
        (id,) = self._mapper.primary_key_from_instance(row)
        async with self._database.write() as connection:
            await connection.execute(statement)
            stored = (await connection.execute(self._select.where(self._id == id))).one()
        return self._object(tuple(stored))

    async def update(self, id: Any, **values: Any) -> Model | None:
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(self._table).where(self._id == id).values(values).returning(*self._columns)
            )
            row = changed.one_or_none()
        return self._object(tuple(row)) if row else None

    async def delete(self, id: Any) -> bool:
        async with self._database.write() as connection:
            deleted = await connection.execute(delete(self._table).where(self._id == id))
            return deleted.rowcount > 0

    async def _rows(self, statement: Select[Any]) -> list[Row]:
        async with self._database.read() as connection:
            return [tuple(row) for row in await connection.execute(statement)]

    def _newest_first(self, statement: Select[Any]) -> Select[Any]:
        return statement.order_by(self._table.c.created_at.desc(), self._id.desc())

    def _name_of(self, statement: Select[Any]) -> str:
        """A text that is the same for the same query only, to bind cursors to it."""
        compiled = statement.compile(dialect=sqlite.dialect())
        return f"{compiled} {sorted(compiled.params.items())!r}"

    def _object(self, row: Row) -> Model:
        instance = self._mapper.class_manager.new_instance()
        instance.__dict__.update(zip(self._keys, row, strict=True))
        # As a session leaves an object behind that it has loaded and let go of.
        state = instance_state(instance)
        state.key = self._mapper.identity_key_from_primary_key((row[self._id_index],))
        return instance
