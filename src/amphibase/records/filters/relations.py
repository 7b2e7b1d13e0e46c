"""The relationships of a model by whose rows a list may be filtered, as `author.name=eq.Ann`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import RelationshipProperty

from amphibase.access.conditions import Never
from amphibase.backend import ANONYMOUS, Where
from amphibase.errors import NotSupported
from amphibase.records.adoption import mappers_by_table
from amphibase.records.fields import cached_by_model
from amphibase.records.filters.expressions import FilterableColumn, filterable_columns
from amphibase.records.joins import check_joinable, equal_columns
from amphibase.records.model_access import access_of


@dataclass(frozen=True, slots=True)
class FilterableRelation:
    """A relationship whose rows callers may read.

    Args:
        relationship: the class's attribute.
        many: whether it leads to many rows.
        columns: of the related model, by name.
    """

    relationship: Any
    many: bool
    columns: Mapping[str, FilterableColumn]

    def has(self, conditions: list[Where]) -> Where:
        """Return that there is one related row, which the caller sees, for which all hold."""
        exists = self.relationship.any if self.many else self.relationship.has
        expression: Where = exists(and_(*conditions))
        return expression


@cached_by_model
def filterable_relations(model: type[Any]) -> dict[str, FilterableRelation]:
    """Return the relationships of a model that lists may be filtered by, by name.

    They lead to a model that callers other than the service may read, over columns that are equal;
    a table in between has a model that declares its access.
    """
    return {
        each.key: FilterableRelation(
            getattr(model, each.key), bool(each.uselist), filterable_columns(each.mapper.class_)
        )
        for each in _readable(model)
    }


def _readable(model: type[Any]) -> Iterator[RelationshipProperty[Any]]:
    for each in inspect_model(model).relationships:
        is_read = not isinstance(access_of(each.mapper.class_).read, Never)
        if is_read and _is_readable_join(each):
            yield each


def _is_readable_join(relationship: RelationshipProperty[Any]) -> bool:
    between: Any = relationship.secondary
    if between is not None and between not in mappers_by_table():
        return False
    try:
        for join in (relationship.primaryjoin, relationship.secondaryjoin):
            if join is not None:
                equal_columns(join, relationship)
        check_joinable(relationship, ANONYMOUS)
    except NotSupported:
        return False
    return True
