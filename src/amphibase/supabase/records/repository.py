"""The Supabase backend's `Repository`: the rows of one model for one caller."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Generic

from amphibase.backend import JsonRows, Load, Model, Order, Page, Where
from amphibase.errors import (
    AmphibaseError,
    ConfigurationError,
    Conflict,
    Forbidden,
    ForeignKeyViolation,
    InvalidRequest,
    NotFound,
    StaleVersion,
    Unauthenticated,
)
from amphibase.models import utc_now
from amphibase.records.access_policy import AccessPolicy, Write
from amphibase.records.arguments import check_filtered, check_limit, check_offset
from amphibase.records.batch import Batch
from amphibase.records.constraints import attributes_named
from amphibase.records.many_to_many import ManyToMany
from amphibase.records.model_info import ModelInfo
from amphibase.records.predicates import Predicates, is_of_row
from amphibase.records.upsert import changed_names, unique_names
from amphibase.records.validators import validated
from amphibase.records.values import Row
from amphibase.supabase.records.aggregate import aggregate_rows
from amphibase.supabase.records.counting import count_rows, rows_exist
from amphibase.supabase.records.defaults import check_plain
from amphibase.supabase.records.insert import as_columns, insert
from amphibase.supabase.records.loading import loaders_of
from amphibase.supabase.records.paged_read import PagedRead, read_records, read_rows
from amphibase.supabase.records.pages import read_page
from amphibase.supabase.records.referrers import still_referred_to
from amphibase.supabase.records.request_builder import ROWS_A_REQUEST, RequestBuilder


class SupabaseRepository(Generic[Model]):
    """Reads and writes the rows of one mapped class that one caller may see and change."""

    def __init__(self, info: ModelInfo[Model], builder: RequestBuilder) -> None:
        self._info = info
        self._builder = builder
        self._policy = builder.policy

    # Reading

    async def get(self, id: Any, *, load: Load = (), lock: bool = False) -> Model | None:
        if lock:
            raise InvalidRequest("lock: only a transaction holds one, and Supabase has none")
        filters = self._builder.key_filters(id)
        loaders = loaders_of(self._builder, load)
        for loader in loaders:
            loader.embed(filters)
        records = await self._builder.record(filters)
        objects = self._objects(records)
        for loader in loaders:
            await loader.fill(objects, records)
        return objects[0] if objects else None

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
        filters = self._builder.filters(*where)
        loaders = loaders_of(self._builder, load)
        for loader in loaders:
            loader.embed(filters)
        records = await read_records(self._builder, filters, order, limit, offset)
        objects = self._objects(records)
        for loader in loaders:
            await loader.fill(objects, records)
        return objects

    async def page(
        self,
        *where: Where,
        order_by: Order = (),
        cursor: str | None = None,
        limit: int = 100,
        load: Load = (),
    ) -> Page[Model]:
        check_limit(limit)
        loaders = loaders_of(self._builder, load)
        return await read_page(self._info, self._builder, where, order_by, cursor, limit, loaders)

    async def stream(self, *where: Where, order_by: Order = ()) -> AsyncGenerator[Model]:
        filters, order = self._builder.filters(*where), self._builder.ordering(order_by)
        async with aclosing(PagedRead(self._builder, filters, order).pages()) as pages:
            async for records in pages:
                for instance in self._objects(records):
                    yield instance

    async def count(self, *where: Where) -> int:
        return await count_rows(self._builder, where)

    async def exists(self, *where: Where) -> bool:
        return await rows_exist(self._builder, where)

    async def aggregate(
        self,
        *functions: Any,
        by: Sequence[Any] = (),
        where: Sequence[Where] = (),
        limit: int = 1000,
    ) -> Sequence[tuple[Any, ...]]:
        return await aggregate_rows(self._builder, functions, by, where, limit)

    def json_rows(self, names: Sequence[str]) -> JsonRows | None:
        return None

    def with_deleted(self) -> "SupabaseRepository[Model]":
        return SupabaseRepository(self._info, self._builder.of(self._info, with_deleted=True))

    # Writing

    async def add(self, row: Model) -> Model:
        values, own = self._new(row)
        with self._writing("add"):
            (stored,) = await self._insert(values, own)
        return self._info.stored(row, stored)

    async def add_many(self, rows: Iterable[Model], *, atomic: bool = True) -> Sequence[Model]:
        objects = [*rows]
        stored: list[Model] = []
        for batch in self._batches(objects, atomic):
            seen = self._policy.sees_new(own=self._policy.own_all(batch.columns))
            with self._writing("add"):
                batch.take(await insert(self._builder, batch.columns, seen=seen))
            if not seen:
                batch.find_unknown()
            stored += batch.stored()
        return stored

    async def upsert(self, row: Model, *, on: Sequence[Any] = (), replace: bool = True) -> Model:
        values, own = self._new(row)
        names = unique_names(self._info, on)
        try:
            with self._writing("add"):
                (stored,) = await self._insert(values, own)
        except Conflict as error:
            if {*error.columns} != {*names}:
                raise
            try:
                existing = await self._upserted(values, names, replace)
            except (Forbidden, Unauthenticated):  # what is there is not the caller's to change
                existing = None
            if existing is None:
                raise Conflict(columns=names) from error
            stored = existing
        return self._info.stored(row, stored)

    async def update(
        self, id: Any, /, *, if_version: int | None = None, **values: Any
    ) -> Model | None:
        changes = self._changes(values)
        if not changes:
            return await self._unchanged(id, if_version)
        condition = [*self._builder.is_(id), *self._has_version(if_version)]
        with self._writing(*self._policy.operations(changes)):
            rows = await self._update(self._builder, condition, changes)
        if not rows:
            await self._check_unchanged(id, if_version)
            return None
        self._check_counted(rows[0], if_version)
        return self._info.object(rows[0])

    async def update_where(self, *where: Where, everything: bool = False, **values: Any) -> int:
        check_filtered(where, everything)
        filters = self._builder.filters(*where)
        changes = self._changes(values)
        if not changes:
            return 0
        with self._writing(*self._policy.operations(changes)):
            return await self._builder.update(filters, self._record(changes))

    async def delete(self, id: Any, *, if_version: int | None = None) -> bool:
        condition = [*self._builder.is_(id), *self._has_version(if_version)]
        deleted = await self._delete(condition) > 0
        if not deleted:
            await self._check_unchanged(id, if_version)
        return deleted

    async def delete_where(self, *where: Where, everything: bool = False) -> int:
        check_filtered(where, everything)
        return await self._delete(where)

    async def add_related(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        return await self._many_to_many.add(id, relationship, ids)

    async def remove_related(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        return await self._many_to_many.remove(id, relationship, ids)

    # Parts of the methods

    @property
    def _many_to_many(self) -> ManyToMany:
        builder, infos = self._builder, self._builder.shared.infos

        def repository_of(model: type[Any]) -> SupabaseRepository[Any]:
            info = infos.of(model, builder.caller)
            return SupabaseRepository(info, builder.of(info))

        return ManyToMany(self._info, infos, repository_of)

    def _objects(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Model]:
        return self._info.objects(self._builder.codec.rows(records))

    def _new(self, row: Model) -> tuple[dict[str, Any], bool]:
        """Return the values of a new row, and whether it is the caller's own."""
        values = self._info.values(row)
        return values, self._policy.own(values)

    async def _insert(self, values: dict[str, Any], own: bool) -> Sequence[Row]:
        columns = as_columns(self._info, values)
        seen = self._policy.sees_new(own=own)
        return await insert(self._builder, columns, seen=seen, returning=True)

    def _batches(self, objects: Sequence[Model], atomic: bool) -> Iterator[Batch[Model]]:
        size = len(objects) if atomic else ROWS_A_REQUEST
        for start in range(0, len(objects), size or 1):
            yield Batch(self._info, objects[start : start + size])

    async def _upserted(
        self, values: dict[str, Any], names: Sequence[str], replace: bool
    ) -> Row | None:
        """Return the row that has the same values of some columns, changed where it is replaced;
        None where it is not the caller's to see or to change."""
        same = [self._info.column_of[name] == values.get(name) for name in names]
        if not replace:
            return _first(await read_rows(self._builder, same, self._builder.ordering(()), limit=1))
        changes = {
            self._info.column_of[name]: values[name]
            for name in changed_names(self._info, values, names)
        }
        if self._info.deleted_at is not None:
            changes.setdefault(self._info.deleted_at, None)
        # A row that was deleted softly comes back.
        builder = self._builder.of(self._info, with_deleted=True)
        if not changes:
            where = [*same, *self._declared()]
            return _first(await read_rows(builder, where, builder.ordering(()), limit=1))
        with self._writing("change"):
            return _first(await self._update(builder, same, changes))

    async def _update(
        self, builder: RequestBuilder, condition: Sequence[Where], changes: dict[Any, Any]
    ) -> Sequence[Row]:
        filters = builder.filters(*condition)
        # Set again to the same values, a row is as it was; but its version would count up.
        idempotent = self._info.version is None
        return await builder.update_returning(filters, self._record(changes), idempotent=idempotent)

    async def _delete(self, where: Sequence[Where]) -> int:
        filters = self._builder.filters(*where)
        try:
            with self._writing("delete"):
                if self._info.deleted_at is None or self._policy.with_deleted:
                    return await self._builder.delete(filters)
                record = self._record({self._info.deleted_at: utc_now()})
                return await self._builder.update(filters, record)
        except ForeignKeyViolation as error:
            try:
                detailed = await still_referred_to(self._builder, where)
            except AmphibaseError:
                raise error from None
            raise detailed from error

    def _changes(self, values: dict[str, Any]) -> dict[Any, Any]:
        by_service = self._builder.caller.role == "service_role"
        return self._info.changes(validated(self._info.model, values), by_service=by_service)

    def _record(self, changes: Mapping[Any, Any]) -> dict[str, Any]:
        values = {self._info.name_of[column]: value for column, value in changes.items()}
        for name, value in values.items():
            check_plain(name, [value])
        return self._builder.codec.write(values)

    def _has_version(self, version: int | None) -> Sequence[Where]:
        return [] if version is None else [self._info.has_version(version)]

    def _declared(self) -> Sequence[Where]:
        """The rows that the caller may change, as far as their own columns say it; the rest is
        known to policies alone."""
        caller = self._builder.caller
        policy = AccessPolicy(self._info, caller, by_database=False, with_deleted=True)
        condition = policy.changeable
        return [Predicates(caller).write(condition)] if is_of_row(condition) else []

    async def _readable(self, id: Any, *where: Where) -> Row | None:
        filters = self._builder.filters(*self._builder.is_(id), *where)
        return _first(self._builder.codec.rows(await self._builder.record(filters)))

    async def _unchanged(self, id: Any, if_version: int | None) -> Model | None:
        """Return the row that could be changed, as it is."""
        with self._writing("change"):
            row = await self._readable(id, *self._has_version(if_version), *self._declared())
        if row is None:
            await self._check_unchanged(id, if_version)
        return None if row is None else self._info.object(row)

    async def _check_unchanged(self, id: Any, if_version: int | None) -> None:
        """Say why a row was not changed, if the caller sees it.

        Raises:
            StaleVersion: it has another version.
            Unauthenticated, Forbidden: the caller may not.
        """
        if await self._readable(id) is None:
            return
        if if_version is not None and await self._readable(id, *self._declared()) is not None:
            raise StaleVersion
        self._policy.deny()

    def _check_counted(self, row: Row, if_version: int | None) -> None:
        if self._info.version is None or if_version is None:
            return
        if row[self._info.columns.index(self._info.version)] == if_version:
            raise ConfigurationError(
                f"{self._info.table.name} does not count the versions of its rows: create the "
                "triggers of the starter SQL (`amphibase supabase sql`)"
            )

    @contextmanager
    def _writing(self, *operations: Write) -> Iterator[None]:
        # What the project grants by default, policies may still hide without an error.
        self._policy.check(*operations)
        with attributes_named(self._info):
            try:
                yield
            except (Forbidden, Unauthenticated) as error:
                if not self._builder.is_denied(error):
                    raise
                self._policy.deny()


def _first(rows: Sequence[Row]) -> Row | None:
    return rows[0] if rows else None
