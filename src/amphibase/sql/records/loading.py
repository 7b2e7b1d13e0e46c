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
from amphibase.records.joins import equal_columns
from amphibase.records.model_info import ModelInfo
from amphibase.records.values import Row
from amphibase.sql.records.query_builder import QueryBuilder

KEYS_A_QUERY = 1000


async def load_related(objects: Sequence[Any], load: Sequence[Any], builder: QueryBuilder) -> None:
    """Fill relationships of objects with the related rows that the caller may see.

    Args:
        objects: of the builder's model.
        load: the relationships.

    Raises:
        InvalidRequest: one is not a relationship of the model.
        NotSupported: a relationship joins by more than equal columns.
    """
    info = builder.info
    for each in check_list("load", load):
        name = getattr(each, "key", each)
        relationship = info.relationships.get(name)
        if relationship is None or not issubclass(info.model, getattr(each, "class_", object)):
            raise InvalidRequest(f"load: {info.model.__name__} has no relationship {each}")
        related = builder.of(builder.infos.of(relationship.mapper.class_))
        await _fill(info, objects, relationship, related)


async def _fill(
    info: ModelInfo[Any],
    objects: Sequence[Any],
    relationship: RelationshipProperty[Any],
    related: QueryBuilder,
) -> None:
    here, far = equal_columns(relationship.primaryjoin, relationship)
    names = [info.mapper.get_property_by_column(column).key for column in here]
    keys = {tuple(getattr(each, name) for name in names) for each in objects}
    wanted = [key for key in keys if None not in key]
    if relationship.secondary is not None and related.rls and not _declared(relationship, related):
        loaded = await _through(relationship, related, far, wanted)
    else:
        loaded = await _beside(relationship, related, far, wanted)
    for each in objects:
        rows = loaded.get(tuple(getattr(each, name) for name in names), [])
        value = rows if relationship.uselist else (rows[0] if rows else None)
        set_committed_value(each, relationship.key, value)


async def _beside(
    relationship: RelationshipProperty[Any],
    related: QueryBuilder,
    far: Sequence[Column[Any]],
    wanted: Sequence[Row],
) -> dict[Row, list[Any]]:
    """The related rows by the values that they, or the table in between, have in `far`."""
    there = related.info
    statement = select(*far, *there.columns, *there.computed)
    if relationship.secondary is not None:
        statement = statement.join_from(
            there.table, relationship.secondary, relationship.secondaryjoin
        )
    statement = related.visible(
        statement, order_by=_order(relationship, there), reads=_declared(relationship, related)
    )
    loaded: dict[Row, list[Any]] = defaultdict(list)
    for chosen in _chosen(far, wanted):
        for row in await related.rows(related.selects.query(statement.where(chosen))):
            loaded[row[: len(far)]].append(there.object(row[len(far) :]))
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
) -> dict[Row, list[Any]]:
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
    statement = select(*leads, *there.columns, *there.computed)
    statement = related.visible(statement, order_by=_order(relationship, there))
    owners: dict[Row, list[Row]] = defaultdict(list)
    for pair in pairs:
        owners[pair[len(far) :]].append(pair[: len(far)])
    loaded: dict[Row, list[Any]] = defaultdict(list)
    for chosen in _chosen(leads, [*owners]):
        for row in await related.rows(related.selects.query(statement.where(chosen))):
            for key in owners[row[: len(leads)]]:
                loaded[key].append(there.object(row[len(leads) :]))
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
