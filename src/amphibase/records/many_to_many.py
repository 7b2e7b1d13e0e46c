"""Relationships of many to many: their rows in between are added and removed by the keys of the
rows that they join, under the access that the model of the table in between declares."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Table
from sqlalchemy import inspect as inspect_model

from amphibase.backend import MAX_LIMIT, Repository
from amphibase.errors import ForeignKeyViolation, InvalidRequest, NotFound, NotSupported
from amphibase.records.arguments import check_list
from amphibase.records.joins import equal_columns
from amphibase.records.model_info import ModelInfo
from amphibase.records.model_infos import ModelInfos

Repositories = Callable[[type[Any]], Repository[Any]]
"""Gives the repository of a model, for the same caller."""


class Association(NamedTuple):
    """What joins the rows of two models.

    Attributes:
        model: of the table in between.
        near, far: its columns that hold the keys of the two.
        related: the model at the far end, with its key.
    """

    model: type[Any]
    near: Column[Any]
    far: Column[Any]
    related: type[Any]
    related_key: Column[Any]


class ManyToMany:
    """Adds and removes what joins the rows of one model to others, for one caller.

    Args:
        repository_of: for the caller.
    """

    def __init__(
        self, info: ModelInfo[Any], infos: ModelInfos, repository_of: Repositories
    ) -> None:
        self._info = info
        self._infos = infos
        self._repository_of = repository_of

    async def add(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        """Join a row to related rows; see `Repository.add_related`."""
        association, keys = self._association(relationship), _keys(ids)
        model, near, far, related, related_key = association
        (key,) = self._info.key_values(id)
        if not await self._repository_of(self._info.model).exists(self._info.keys[0] == key):
            raise NotFound(f"There is no such {self._info.model.__name__}")
        if await self._repository_of(related).count(related_key.in_(keys)) < len(keys):
            raise ForeignKeyViolation(f"There is no such {related.__name__}")
        between = self._repository_of(model)
        joined = await between.list(near == key, far.in_(keys), limit=MAX_LIMIT)
        near_name, far_name = _attribute(model, near), _attribute(model, far)
        present = {getattr(each, far_name) for each in joined}
        missing = [each for each in keys if each not in present]
        await between.add_many([model(**{near_name: key, far_name: each}) for each in missing])
        return len(missing)

    async def remove(self, id: Any, relationship: Any, ids: Sequence[Any]) -> int:
        """Part a row from related rows; see `Repository.remove_related`."""
        association, keys = self._association(relationship), _keys(ids)
        (key,) = self._info.key_values(id)
        joined: list[ColumnElement[bool]] = [association.near == key, association.far.in_(keys)]
        return await self._repository_of(association.model).delete_where(*joined)

    def _association(self, relationship: Any) -> Association:
        name = getattr(relationship, "key", relationship)
        known = self._info.relationships.get(name)
        if known is None or not isinstance(known.secondary, Table):
            model = self._info.model.__name__
            raise InvalidRequest(f"{model} has no relationship {name} of many to many")
        models = self._infos.models_of(known.secondary.fullname)
        if not models:
            raise NotSupported(
                f"{known.secondary.fullname} has no model that declares who adds and removes its "
                "rows; map a class to it, with an __access__"
            )
        here, near = equal_columns(known.primaryjoin, known)
        there, far = equal_columns(known.secondaryjoin, known)
        joins_keys = here == [*self._info.keys] and there == [*known.mapper.primary_key]
        if not joins_keys or len(near) + len(far) > 2:
            raise NotSupported(f"{known} does not join by primary keys of one column")
        return Association(models[0], near[0], far[0], known.mapper.class_, there[0])


def _keys(ids: Sequence[Any]) -> Sequence[Any]:
    keys = [*dict.fromkeys(check_list("ids", ids))]
    if len(keys) > MAX_LIMIT:
        raise InvalidRequest(f"ids: at most {MAX_LIMIT} were expected, not {len(keys)}")
    return keys


def _attribute(model: type[Any], column: Column[Any]) -> str:
    name: str = inspect_model(model).get_property_by_column(column).key
    return name
