"""Relationships of rows that were read: one more query each, whatever the number of rows."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, select, tuple_
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.attributes import set_committed_value

from amphibase.backend import SERVICE, Load
from amphibase.records.joins import equal_columns
from amphibase.records.load_paths import relationship_loads
from amphibase.records.model_info import ModelInfo
from amphibase.records.page_size import count_within
from amphibase.records.values import Row
from amphibase.sql.records.pages import row_sizes
from amphibase.sql.records.query_builder import QueryBuilder
from amphibase.sql.records.row_size import row_size_of

KEYS_A_QUERY = 1000

Columns = Sequence[ColumnElement[Any]]


async def load_related(objects: Sequence[Any], load: Load, builder: QueryBuilder) -> None:
    """Fill relationships of objects with the related rows that the caller may see.

    Args:
        objects: of the builder's model.
        load: the relationships, and paths of them.

    Raises:
        InvalidRequest: one is not a relationship of the model.
        NotSupported: a relationship joins by more than equal columns, or by one that the caller
            may not read.
    """
    for relationship, further in relationship_loads(builder.info, load, builder.caller):
        related = _related_builder(relationship, builder)
        there = related.info
        keys = _keys(builder.info, map(vars, objects), relationship)
        loaded = await _related(relationship, related, keys, [*there.columns, *there.computed])
        # A row that several objects refer to is one object.
        found = {key: [there.object(row) for row in rows] for key, rows in loaded.items()}
        for each, key in zip(objects, keys, strict=True):
            values = found.get(key, [])
            value = values if relationship.uselist else (values[0] if values else None)
            set_committed_value(each, relationship.key, value)
        if further:
            await load_related([each for some in found.values() for each in some], further, related)


async def count_loadable(objects: Sequence[Any], load: Load, builder: QueryBuilder) -> int:
    """Return how many of the first objects fit into a page together with the related rows: at least
    one. Raises as `load_related`."""
    if _is_bounded(load, builder):
        return len(objects)
    names = builder.info.key_names
    keys = [tuple(getattr(each, name) for name in names) for each in objects]
    sizes = await row_sizes(builder, keys)
    await _add_sizes(sizes, [*enumerate(map(vars, objects))], load, builder)
    return count_within(sizes, builder.max_page_bytes)


def _is_bounded(load: Load, builder: QueryBuilder) -> bool:
    """Return whether the types of their columns keep all related rows small."""
    for relationship, further in relationship_loads(builder.info, load, builder.caller):
        related = _related_builder(relationship, builder)
        size = row_size_of(related.info, related.infos.dialect)
        if not (size.is_bounded and _is_bounded(further, related)):
            return False
    return True


async def _add_sizes(
    sizes: list[int],
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    load: Load,
    builder: QueryBuilder,
) -> None:
    """Add the bytes of the related rows, of each once, to those of the objects that they are
    loaded with.

    Args:
        sizes: of the objects of the page.
        rows: of the builder's model: the place of an object, and the columns of a row of its own.
    """
    places = [place for place, _ in rows]
    for relationship, further in relationship_loads(builder.info, load, builder.caller):
        related = _related_builder(relationship, builder)
        size = row_size_of(related.info, related.infos.dialect)
        if size.is_bounded and _is_bounded(further, related):
            continue
        joined = _joined_names(related, further)
        columns = [size.bytes, *(related.info.column_of[name] for name in joined)]
        keys = _keys(builder.info, (values for _, values in rows), relationship)
        loaded = await _related(relationship, related, keys, columns)
        next_rows: list[tuple[int, Mapping[str, Any]]] = []
        for place, key in zip(places, keys, strict=True):
            for bytes_, *values in loaded.pop(key, ()):
                sizes[place] += bytes_
                next_rows.append((place, dict(zip(joined, values, strict=True))))
        await _add_sizes(sizes, next_rows, further, related)


def _joined_names(builder: QueryBuilder, load: Load) -> Sequence[str]:
    """Return the attributes that relationships join rows of the builder's model by."""
    loads = relationship_loads(builder.info, load, builder.caller)
    names = (_names(builder.info, each.relationship) for each in loads)
    return [*dict.fromkeys(name for some in names for name in some)]


def _related_builder(
    relationship: RelationshipProperty[Any], builder: QueryBuilder
) -> QueryBuilder:
    return builder.of(builder.infos.of(relationship.mapper.class_, builder.caller))


def _names(info: ModelInfo[Any], relationship: RelationshipProperty[Any]) -> Sequence[str]:
    here, _ = equal_columns(relationship.primaryjoin, relationship)
    return [info.mapper.get_property_by_column(column).key for column in here]


def _keys(
    info: ModelInfo[Any],
    rows: Iterable[Mapping[str, Any]],
    relationship: RelationshipProperty[Any],
) -> list[Row]:
    """Return what each row is joined to its related rows by."""
    names = _names(info, relationship)
    return [tuple([row[name] for name in names]) for row in rows]


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
