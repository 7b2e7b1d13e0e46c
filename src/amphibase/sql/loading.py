"""Relationships of rows that were read: one more query each, whatever the number of rows."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, select, tuple_
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BooleanClauseList

from amphibase.errors import InvalidRequest, NotSupported
from amphibase.sql.reader import Reader
from amphibase.sql.shape import Shape, Shapes

KEYS_A_QUERY = 1000


async def fill(
    shape: Shape[Any],
    objects: Sequence[Any],
    load: Sequence[Any],
    reader: Reader,
    shapes: Shapes,
) -> None:
    """Fill relationships of all objects with the rows that the reader's caller may see.

    Args:
        load: the relationships.

    Raises:
        InvalidRequest: something is no relationship of the model.
        NotSupported: a relationship joins by more than equal columns.
    """
    for each in load:
        name = getattr(each, "key", each)
        relationship = shape.relationships.get(name)
        if relationship is None or not issubclass(shape.model, getattr(each, "class_", object)):
            raise InvalidRequest(f"load: {shape.model.__name__} has no relationship {each}")
        related = reader.beside(shapes.of(relationship.mapper.class_))
        await _fill(shape, objects, relationship, related)


async def _fill(
    shape: Shape[Any],
    objects: Sequence[Any],
    relationship: RelationshipProperty[Any],
    related: Reader,
) -> None:
    there = related.shape
    here, far = _ends(relationship)
    names = [shape.mapper.get_property_by_column(column).key for column in here]
    keys = {tuple(getattr(each, name) for name in names) for each in objects}
    wanted = [key for key in keys if None not in key]
    statement = select(*far, *there.columns)
    if relationship.secondary is not None:
        statement = statement.join_from(
            there.table, relationship.secondary, relationship.secondaryjoin
        )
    order = relationship.order_by or [column.asc() for column in there.newest_first]
    statement = related.visible(statement).order_by(*order)
    found: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for start in range(0, len(wanted), KEYS_A_QUERY):
        some = wanted[start : start + KEYS_A_QUERY]
        single = len(far) == 1
        chosen = far[0].in_([key[0] for key in some]) if single else tuple_(*far).in_(some)
        for row in await related.rows(related.plans.query(statement.where(chosen))):
            found[row[: len(far)]].append(there.object(row[len(far) :]))
    for each in objects:
        rows = found.get(tuple(getattr(each, name) for name in names), [])
        value = rows if relationship.uselist else (rows[0] if rows else None)
        set_committed_value(each, relationship.key, value)


def _ends(
    relationship: RelationshipProperty[Any],
) -> tuple[list[Column[Any]], list[Column[Any]]]:
    """The columns of the row at hand, and those that must equal them: the related row's, or the
    table's in between."""
    known: Any = {*(relationship.local_remote_pairs or ())}
    here: list[Column[Any]] = []
    far: list[Column[Any]] = []
    for condition in _parts(relationship.primaryjoin):
        left: Any = getattr(condition, "left", None)
        right: Any = getattr(condition, "right", None)
        pairs = [pair for pair in ((left, right), (right, left)) if pair in known]
        if not pairs or getattr(condition, "operator", None) is not operators.eq:
            raise NotSupported(
                f"{relationship} joins by more than equal columns; query it yourself"
            )
        here.append(pairs[0][0])
        far.append(pairs[0][1])
    return here, far


def _parts(condition: Any) -> Sequence[Any]:
    """The conditions that have to hold together."""
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        return condition.clauses
    return [condition]
