"""Relationships of rows that were read: one more query each, whatever the number of rows."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, select, tuple_
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.attributes import set_committed_value

from amphibase.backend import SERVICE
from amphibase.errors import InvalidRequest
from amphibase.records.arguments import check_list
from amphibase.records.joins import check_joinable, equal_columns
from amphibase.records.model_info import ModelInfo
from amphibase.records.page_size import count_within
from amphibase.records.values import Row
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.row_size import row_size_of

KEYS_A_QUERY = 1000

Columns = Sequence[ColumnElement[Any]]


async def load_related(objects: Sequence[Any], load: Sequence[Any], builder: QueryBuilder) -> None:
    """Fill relationships of objects with the related rows that the caller may see.

    Args:
        objects: of the builder's model.
        load: the relationships.

    Raises:
        InvalidRequest: one is not a relationship of the model.
        NotSupported: a relationship joins by more than equal columns, or by one that the caller
            may not read.
    """
    for relationship, related in _relationships(load, builder):
        there = related.info
        keys = _keys(builder.info, objects, relationship)
        loaded = await _related(relationship, related, keys, [*there.columns, *there.computed])
        # A row that several objects refer to is one object.
        found = {key: [there.object(row) for row in rows] for key, rows in loaded.items()}
        for each, key in zip(objects, keys, strict=True):
            values = found.get(key, [])
            value = values if relationship.uselist else (values[0] if values else None)
            set_committed_value(each, relationship.key, value)


async def count_loadable(objects: Sequence[Any], load: Sequence[Any], builder: QueryBuilder) -> int:
    """Return how many of the first objects fit into a page together with the related rows: at least
    one. Raises as `load_related`."""
    relationships = [
        (relationship, related, row_size_of(related.info, related.infos.dialect))
        for relationship, related in _relationships(load, builder)
    ]
    if all(size.is_bounded for _, _, size in relationships):
        return len(objects)
    sizes = await builder.sizes(objects)
    for relationship, related, size in relationships:
        if size.is_bounded:
            continue
        keys = _keys(builder.info, objects, relationship)
        loaded = await _related(relationship, related, keys, [size.bytes])
        for place, key in enumerate(keys):
            sizes[place] += sum(bytes_ for (bytes_,) in loaded.pop(key, ()))
    return count_within(sizes, builder.max_page_bytes)


def _relationships(
    load: Sequence[Any], builder: QueryBuilder
) -> Iterator[tuple[RelationshipProperty[Any], QueryBuilder]]:
    """Yield each relationship, and the builder of the related model. Raises InvalidRequest."""
    info = builder.info
    for each in check_list("load", load):
        name = getattr(each, "key", each)
        relationship = info.relationships.get(name)
        if relationship is None or not issubclass(info.model, getattr(each, "class_", object)):
            raise InvalidRequest(f"load: {info.model.__name__} has no relationship {each}")
        check_joinable(relationship, builder.caller)
        yield relationship, builder.of(builder.infos.of(relationship.mapper.class_, builder.caller))


def _keys(
    info: ModelInfo[Any], objects: Sequence[Any], relationship: RelationshipProperty[Any]
) -> list[Row]:
    """Return what each object is joined to its related rows by."""
    here, _ = equal_columns(relationship.primaryjoin, relationship)
    names = [info.mapper.get_property_by_column(column).key for column in here]
    return [tuple(getattr(each, name) for name in names) for each in objects]


async def _related(
    relationship: RelationshipProperty[Any],
    related: QueryBuilder,
    keys: Sequence[Row],
    columns: Columns,
) -> dict[Row, list[Row]]:
    """Return columns of the related rows that the caller may see, by the keys of the objects."""
    _, far = equal_columns(relationship.primaryjoin, relationship)
    wanted = [key for key in dict.fromkeys(keys) if None not in key]
    if relationship.secondary is not None and related.rls and not _declared(relationship, related):
        return await _through(relationship, related, far, wanted, columns)
    return await _beside(relationship, related, far, wanted, columns)


async def _beside(
    relationship: RelationshipProperty[Any],
    related: QueryBuilder,
    far: Sequence[Column[Any]],
    wanted: Sequence[Row],
    columns: Columns,
) -> dict[Row, list[Row]]:
    """The related rows by the values that they, or the table in between, have in `far`."""
    there = related.info
    statement = select(*far, *columns).select_from(there.table)
    if relationship.secondary is not None:
        statement = statement.join_from(
            there.table, relationship.secondary, relationship.secondaryjoin
        )
    statement = related.visible(
        statement, order_by=_order(relationship, there), reads=_declared(relationship, related)
    )
    loaded: dict[Row, list[Row]] = defaultdict(list)
    for chosen in _chosen(far, wanted):
        for row in await related.rows(related.selects.query(statement.where(chosen))):
            loaded[tuple(row[: len(far)])].append(row[len(far) :])
    return loaded


def _declared(relationship: RelationshipProperty[Any], related: QueryBuilder) -> list[Table]:
    """Return the table in between where a model declares who sees its rows; else nothing."""
    table = relationship.secondary
    if isinstance(table, Table) and related.infos.models_of(table.fullname):
        return [table]
    return []


async def _through(
    relationship: RelationshipProperty[Any],
    related: QueryBuilder,
    far: Sequence[Column[Any]],
    wanted: Sequence[Row],
    columns: Columns,
) -> dict[Row, list[Row]]:
    """The same where policies decide: a table in between has no model, so no declaration and no
    policy. The service reads it, and the caller the rows that it refers to."""
    there = related.info
    leads, to = equal_columns(relationship.secondaryjoin, relationship)
    links = select(*far, *to)
    pairs: list[Row] = []
    for chosen in _chosen(far, wanted):
        query = related.selects.query(links.where(chosen))
        (rows,) = await related.executor.fetch(SERVICE, query)
        pairs += rows
    statement = select(*leads, *columns).select_from(there.table)
    statement = related.visible(statement, order_by=_order(relationship, there))
    owners: dict[Row, list[Row]] = defaultdict(list)
    for pair in pairs:
        owners[pair[len(far) :]].append(pair[: len(far)])
    loaded: dict[Row, list[Row]] = defaultdict(list)
    for chosen in _chosen(leads, [*owners]):
        for row in await related.rows(related.selects.query(statement.where(chosen))):
            for key in owners[tuple(row[: len(leads)])]:
                loaded[key].append(row[len(leads) :])
    return loaded


def _order(relationship: RelationshipProperty[Any], there: ModelInfo[Any]) -> Sequence[Any]:
    return relationship.order_by or [column.asc() for column in there.newest_first]


def _chosen(columns: Sequence[Column[Any]], values: Sequence[Row]) -> Iterator[ColumnElement[bool]]:
    """The conditions that the columns have one of the values, some at a time."""
    for start in range(0, len(values), KEYS_A_QUERY):
        some = values[start : start + KEYS_A_QUERY]
        if len(columns) == 1:
            yield columns[0].in_([key[0] for key in some])
        else:
            yield tuple_(*columns).in_(some)
