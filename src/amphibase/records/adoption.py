"""Models that come with a MetaData of their own, as SQLModel's do: their tables join Base's."""

from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import MetaData, Table
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import Mapper

from amphibase.errors import ConfigurationError
from amphibase.models import Base
from amphibase.private_names.sqlalchemy import copy_table, registries

_adopted: WeakKeyDictionary[Table, Table] = WeakKeyDictionary()


def adopt(model: type[Any]) -> None:
    """Copy the tables of a foreign model's MetaData into Base's, so that they are created and
    migrated with the others. What was copied before is left alone.

    Raises:
        ConfigurationError: Base has another table of the same name.
        TypeError: it is no model.
    """
    require_model(model)
    # In no order: a foreign key may lead to a table of Base's, which the other MetaData lacks.
    tables = [
        table
        for table in inspect_model(model).local_table.metadata.tables.values()
        if table.metadata is not Base.metadata and table not in _adopted
    ]
    for table in tables:
        if table.key in Base.metadata.tables:
            raise ConfigurationError(
                f"Two models have a table {table.key!r}: {model.__name__}'s (or one beside it) and "
                "one of Base; rename one of them by __tablename__"
            )
    for table in tables:
        _adopted[table] = copy_table(table, Base.metadata)


def require_model(model: object) -> None:
    """Raise TypeError for what is no mapped class."""
    if not isinstance(inspect_model(model, raiseerr=False), Mapper):
        raise TypeError(f"{model!r} is no model: a class on Base was expected, or one of SQLModel")


def adopted(table: Table) -> Table:
    """Return Base's copy of a foreign model's table; any other table as it is."""
    return _adopted.get(table, table)


def complete_tables(metadata: MetaData) -> None:
    """Give the tables of models what depends on a declaration that may come after their classes."""
    for registry in registries():
        if registry.metadata is metadata:
            registry.configure(cascade=True)


def mappers_by_table() -> dict[Table, list[Mapper[Any]]]:
    """Return the mappers of every class, of any base, by the table that they map."""
    mappers: dict[Table, list[Mapper[Any]]] = {}
    for registry in registries():
        for mapper in registry.mappers:
            if isinstance(mapper.local_table, Table):
                mappers.setdefault(adopted(mapper.local_table), []).append(mapper)
    return mappers
