"""The relationships that are loaded with rows, to any depth."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import RelationshipProperty

from amphibase.backend import Caller, Load
from amphibase.errors import InvalidRequest
from amphibase.records.arguments import check_list
from amphibase.records.joins import check_joinable
from amphibase.records.model_info import ModelInfo


class RelationshipLoad(NamedTuple):
    """A relationship that is loaded, and what is loaded with the related rows."""

    relationship: RelationshipProperty[Any]
    load: Load


def relationship_loads(
    info: ModelInfo[Any], load: Load, caller: Caller
) -> Sequence[RelationshipLoad]:
    """Return the relationships of a model that are loaded, each once.

    Args:
        load: relationships, and paths of them as tuples.

    Raises:
        InvalidRequest: one is not a relationship of the model.
        NotSupported: one joins by a column that the caller may not read.
    """
    further: dict[str, list[Any]] = {}
    for each in check_list("load", load):
        first, *rest = each if isinstance(each, tuple) and each else (each,)
        name = getattr(first, "key", first)
        if name not in info.relationships or not issubclass(
            info.model, getattr(first, "class_", object)
        ):
            raise InvalidRequest(f"load: {info.model.__name__} has no relationship {first}")
        check_joinable(info.relationships[name], caller)
        further.setdefault(name, []).extend([tuple(rest)] if rest else [])
    return [RelationshipLoad(info.relationships[name], rest) for name, rest in further.items()]
