"""The infos of all models that a backend has met."""

from typing import Any

from amphibase.backend import SERVICE, Caller, Model
from amphibase.models import Base
from amphibase.records.adoption import mappers_by_table
from amphibase.records.model_info import ModelInfo


class ModelInfos:
    """Builds and caches the info of each model.

    Args:
        dialect: the name of the database's dialect.
    """

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self._infos: dict[tuple[type[Any], bool], ModelInfo[Any]] = {}
        self._models: dict[str, list[type[Any]]] = {}

    def of(self, model: type[Model], caller: Caller) -> ModelInfo[Model]:
        """Return the info of a mapped class, with the columns that the caller may use.

        Raises:
            TypeError, NotSupported: as of `ModelInfo`.
        """
        by_service = caller.role == "service_role"
        info = self._infos.get((model, by_service))
        if info is None:
            if not by_service and self.of(model, SERVICE).is_open:
                info = self.of(model, SERVICE)
            else:
                info = ModelInfo(model, by_service=by_service)
            self._infos[model, by_service] = info
        return info

    def models_of(self, table: str) -> list[type[Any]]:
        """Return the classes that are mapped to a table, by its name."""
        if table not in self._models:  # a class may have been mapped since
            by_table = mappers_by_table().items()
            # The application's own last, so that they replace others of the same name.
            for each, mappers in sorted(
                by_table, key=lambda pair: pair[0].metadata is Base.metadata
            ):
                self._models[each.fullname] = [mapper.class_ for mapper in mappers]
        return self._models.get(table, [])
