"""Relationships that are loaded with rows: embedded in the same request where that is possible."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Column, ColumnElement, and_, or_
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.attributes import set_committed_value

from amphibase.backend import SERVICE, Load
from amphibase.records.filters.names import format_name
from amphibase.records.joins import equal_columns
from amphibase.records.load_paths import relationship_loads
from amphibase.records.model_info import ModelInfo
from amphibase.records.values import Row
from amphibase.supabase.errors import read_json
from amphibase.supabase.records.dialect import from_json
from amphibase.supabase.records.expressions import FilterBuilder, Filters, JoinedRelation
from amphibase.supabase.records.paged_read import read_rows
from amphibase.supabase.records.parameters import conditions_of, table_path, total_of
from amphibase.supabase.records.relations import Step, foreign_key_hint
from amphibase.supabase.records.request_builder import ROWS_A_REQUEST, RequestBuilder

KEYS_A_REQUEST = 100


def loaders_of(builder: RequestBuilder, load: Load) -> "list[Loader]":
    """Return what loads relationships of the builder's model.

    Raises:
        InvalidRequest, NotSupported: as of `relationship_loads`.
    """
    loads = relationship_loads(builder.info, load, builder.caller)
    return [Loader(relationship, builder, further) for relationship, further in loads]


class Loader:
    """Loads one relationship of the rows of a request.

    Args:
        builder: of the rows' model.
        load: what is loaded with the related rows.

    Attributes:
        info: of the related rows' model.
        alias: of the relation in the request; None where it is not embedded.
        further: what loads the relationships of the related rows.
    """

    def __init__(
        self, relationship: RelationshipProperty[Any], builder: RequestBuilder, load: Load
    ) -> None:
        self._relationship = relationship
        self._builder = builder
        self.info: ModelInfo[Any] = builder.shared.infos.of(
            relationship.mapper.class_, builder.caller
        )
        self._related = builder.of(self.info)
        self.further = loaders_of(self._related, load)
        self._objects: dict[Row, Any] = {}
        self.alias: str | None = None
        self._here, self._far = equal_columns(relationship.primaryjoin, relationship)
        order: Any = relationship.order_by
        self._order = self._related.ordering(
            [*order] if order else [each.asc() for each in self._related.info.newest_first]
        )

    def embed(self, filters: Filters) -> None:
        """Add the related rows to a request, if they can be embedded."""
        table = self._related.info.table
        hint = foreign_key_hint([*zip(self._here, self._far, strict=True)])
        visible = self._builder.visible(table)
        is_own = table is self._builder.info.table  # one key leads both ways then
        if hint is None or visible is None or is_own or self._relationship.secondary is not None:
            return
        self.alias = filters.next_alias()
        embed = JoinedRelation(self.alias, Step(table, hint), [], self._related.codec.select)
        filters.embeds.append(embed)
        inner = FilterBuilder(table, filters, self._builder.visible, (self.alias,), embed.inner)
        inner.add(*visible)
        if self._relationship.uselist:
            order = self._related.format_order(self._order)
            filters.orders.append((f"{self.alias}.order", order))

    async def fill(self, objects: Sequence[Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Set the relationship of objects.

        Args:
            records: the JSON objects that they were made of.
        """
        rest: list[Any] = []
        max_rows = self._builder.shared.max_rows
        for each, record in zip(objects, records, strict=True):
            found = record[self.alias] if self.alias is not None else None
            if self.alias is None or (isinstance(found, list) and max_rows.may_cut(len(found) + 1)):
                rest.append(each)
                continue
            related = found if isinstance(found, list) else [found] if found else []
            self._set(each, self._related.codec.rows(related))
        if rest:
            await self._fill_apart(rest)
        related_objects = [*self._objects.values()]
        for loader in self.further if related_objects else ():
            await loader.fill(related_objects, [{}] * len(related_objects))

    def related_to(self, instance: Any) -> Sequence[Any]:
        """Return the related objects of an object that was filled."""
        value = vars(instance)[self._relationship.key]
        if self._relationship.uselist:
            related: Sequence[Any] = value
            return related
        return [] if value is None else [value]

    def _set(self, instance: Any, rows: Sequence[Row]) -> None:
        objects = [self._object(row) for row in rows]
        value = objects if self._relationship.uselist else (objects[0] if objects else None)
        set_committed_value(instance, self._relationship.key, value)

    def _object(self, row: Row) -> Any:
        """Return the object of a row, the same for all that it is related to."""
        key = self.info.key_of(row)
        if key not in self._objects:
            self._objects[key] = self.info.object(row)
        return self._objects[key]

    async def _fill_apart(self, objects: Sequence[Any]) -> None:
        """Set the relationship by requests for the related rows."""
        info = self._builder.info
        names = [info.mapper.get_property_by_column(column).key for column in self._here]
        key_of = {id(each): tuple(getattr(each, name) for name in names) for each in objects}
        keys = [key for key in {*key_of.values()} if None not in key]
        # The keys of the rows at hand, by those of the related rows.
        columns, owners = self._far, {key: [key] for key in keys}
        if self._relationship.secondary is not None:
            columns, owners = await self._through(keys)
        loaded: dict[Row, list[Row]] = defaultdict(list)
        places = [self._related.info.columns.index(column) for column in columns]
        for row in await self._rows(columns, [*owners]):
            for owner in owners[tuple(row[place] for place in places)]:
                loaded[owner].append(row)
        for each in objects:
            self._set(each, loaded.get(key_of[id(each)], ()))

    async def _through(self, keys: Sequence[Row]) -> tuple[list[Column[Any]], dict[Row, list[Row]]]:
        """Return the columns of the related rows' keys and, by these, the keys of the rows at hand,
        as the table in between has them."""
        relationship = self._relationship
        leads, to = equal_columns(relationship.secondaryjoin, relationship)
        owners: dict[Row, list[Row]] = defaultdict(list)
        for row in await read_links(self._builder, [*self._far, *to], keys):
            owners[row[len(self._far) :]].append(row[: len(self._far)])
        return leads, owners

    async def _rows(self, columns: Sequence[Column[Any]], keys: Sequence[Row]) -> list[Row]:
        rows: list[Row] = []
        for some in chunks(keys):
            rows += await read_rows(self._related, [one_of(columns, some)], self._order)
        if len(keys) > KEYS_A_REQUEST:
            self._sort(rows)
        return rows

    def _sort(self, rows: list[Row]) -> None:
        info = self._related.info
        for term in reversed(self._order.terms):
            place = info.columns.index(cast("Column[Any]", term.by))
            missing = (term.nulls_first is False) != term.descending
            rows.sort(
                key=lambda row, place=place, missing=missing: (  # type: ignore[misc]
                    (row[place] is None) == missing,
                    row[place] if row[place] is not None else 0,
                ),
                reverse=term.descending,
            )


async def read_links(
    builder: RequestBuilder, columns: Sequence[Column[Any]], keys: Sequence[Row]
) -> list[Row]:
    """Return rows of a table between two others.

    A table that no model declares has no policies: the service reads it, and the caller only the
    rows that it refers to.

    Args:
        columns: what is read; the first of them have one of the keys.
    """
    near = columns[: len(keys[0])] if keys else []
    table: Any = columns[0].table
    models = builder.shared.infos.models_of(table.fullname)
    if models:
        between = builder.of(builder.shared.infos.of(models[0], builder.caller))
        places = [between.info.columns.index(column) for column in columns]
        order = between.ordering(())
        found = [
            row
            for some in chunks(keys)
            for row in await read_rows(between, [one_of(near, some)], order)
        ]
        return [tuple(row[place] for place in places) for row in found]
    return [
        row for some in chunks(keys) for row in await _read_undeclared(builder, columns, near, some)
    ]


async def _read_undeclared(
    builder: RequestBuilder,
    columns: Sequence[Column[Any]],
    near: Sequence[Column[Any]],
    keys: Sequence[Row],
) -> list[Row]:
    table: Any = columns[0].table
    names = [format_name(column.name) for column in columns]
    filters = Filters()
    FilterBuilder(table, filters, builder.visible).add(one_of(near, keys))
    parameters = [("select", ",".join(names)), *conditions_of(filters), ("order", ",".join(names))]
    readers = [from_json(column.type) for column in columns]
    rows: list[Row] = []
    while True:
        page = [("limit", str(ROWS_A_REQUEST)), ("offset", str(len(rows)))]
        response = await builder.shared.client.request(
            "rest",
            "GET",
            table_path(table),
            SERVICE,
            params=[*parameters, *page],
            headers={"Prefer": "count=exact"},
        )
        for record in read_json(response):
            values = zip(record.values(), readers, strict=True)
            rows.append(tuple(value if read is None else read(value) for value, read in values))
        if len(rows) >= total_of(response):
            return rows


def one_of(columns: Sequence[Column[Any]], keys: Sequence[Row]) -> ColumnElement[bool]:
    """Return the condition that columns have one of some keys."""
    if len(columns) == 1:
        return columns[0].in_([value for (value,) in keys])
    return or_(
        *(
            and_(*(column == value for column, value in zip(columns, key, strict=True)))
            for key in keys
        )
    )


def chunks(keys: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield keys, as many at a time as fit one request."""
    for start in range(0, len(keys), KEYS_A_REQUEST):
        yield keys[start : start + KEYS_A_REQUEST]
