"""A mapped class: its columns and keys, objects from rows, values from objects."""

import gc
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import is_
from typing import Any, Generic

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    Select,
    Table,
    select,
    tuple_,
)
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state

from amphibase.access import OWNER_COLUMN
from amphibase.backend import Model
from amphibase.errors import InvalidRequest, InvalidValue, NotSupported
from amphibase.models import SoftDelete, Versioned
from amphibase.private_names.sqlalchemy import mark_clean
from amphibase.records.adoption import adopted
from amphibase.records.arguments import check_instances
from amphibase.records.column_access import OPEN, ColumnAccess, column_access, hidden_columns_in
from amphibase.records.deferred_state import DEFERRED, StateMaker, defer_states
from amphibase.records.model_access import access_of
from amphibase.records.not_loaded import (
    Loader,
    column_not_readable,
    column_not_returned,
    relationship_not_loaded,
)
from amphibase.records.unique_keys import UniqueKey, is_partial, unique_keys
from amphibase.records.values import Row, coercer, fast_check

ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
"""Stands in a column for the value that an object does not hold."""

WRITES = ("insert", "update", "delete")
EVENTS = tuple(f"{when}_{what}" for when in ("before", "after") for what in WRITES)
"""The events of a mapper that its sessions run for each row that they write."""

ONLY_BY_SERVICE = (OWNER_COLUMN, "created_at")

_WORD = re.compile(r"\w+")


class ModelInfo(Generic[Model]):
    """What a backend reads from a mapped class; built once for each class, and once more for
    callers where columns are left to the service.

    Args:
        by_service: whether columns that are left to the service can be read and written.

    Attributes:
        names: the columns that are read, by their attributes; `columns` are in the same order.
        column_of: every column of the table, by its attribute.
        hidden: the attributes that are not read.
        not_added, not_changed: those that are not set in a new row, or not changed.

    Raises:
        TypeError: the class, or one of its columns, declares its access wrongly.
        NotSupported: the class is spread over several tables, is one of several in its table, or
            has listeners for the events of writing.
    """

    def __init__(self, model: type[Model], *, by_service: bool = True) -> None:
        mapper: Mapper[Model] = inspect_model(model)
        self.model = model
        self.mapper = mapper
        self.table = _only_table(mapper)
        self.access = access_of(model)
        expressions = {each.key: each.columns[0] for each in mapper.column_attrs}
        stored = {name: each for name, each in expressions.items() if isinstance(each, Column)}
        computed = {name: each for name, each in expressions.items() if name not in stored}
        self.column_of: dict[str, Column[Any]] = stored
        declared = {name: column_access(column) for name, column in stored.items()}
        self.is_open = all(access == OPEN for access in declared.values())
        self.hidden = _names(declared, "read", by_service)
        self.not_added = _names(declared, "add", by_service)
        self.not_changed = _names(declared, "change", by_service)
        if self.hidden:
            computed = {
                name: each for name, each in computed.items() if not hidden_columns_in([each])
            }
        self.names = [name for name in stored if name not in self.hidden]
        self.columns = [stored[name] for name in self.names]
        self.computed_names = [*computed]
        self.loaded_names = [*self.names, *computed]
        self._accepted = {
            name: accepted
            for name, column in self.column_of.items()
            if (accepted := coercer(name, column.type)) is not None
        }
        self._plain = {
            name: plain
            for name, column in self.column_of.items()
            if (plain := fast_check(column.type)) is not None
        }
        self.keys: tuple[Column[Any], ...] = tuple(mapper.primary_key)  # type: ignore[arg-type]
        self.key_names = tuple(mapper.get_property_by_column(key).key for key in self.keys)
        self.key_parameters = tuple(f"key_{place}" for place in range(len(self.keys)))
        self._unique = unique_keys(self.table)
        self.floats = [name for name in self.names if isinstance(self.column_of[name].type, Float)]
        self._key_places = [self.names.index(name) for name in self.key_names]
        self._key_place = self._key_places[0] if len(self._key_places) == 1 else None
        self.relationships = {each.key: each for each in mapper.relationships}
        self.owner = self.column_of.get(OWNER_COLUMN)
        self.deleted_at = self.column_of["deleted_at"] if issubclass(model, SoftDelete) else None
        self.version = self.column_of["version"] if issubclass(model, Versioned) else None
        self.computed = [*computed.values()]
        self.select: Select[Any] = select(*self.columns, *self.computed)
        self.select_keys: Select[Any] = select(*self.keys)
        self.name_of: dict[ColumnElement[Any], str] = {
            column: name for name, column in stored.items()
        }
        defer_states(model)
        self._has_load_listeners = bool(mapper.class_manager.dispatch.load)
        self.cache: dict[Any, Any] = {}  # plans and statements, built when they are first needed
        self.unloaded = {name: relationship_not_loaded(model, name) for name in self.relationships}
        self.unloaded |= {name: column_not_readable(model, name) for name in self.hidden}
        self._make_state = StateMaker(model, self.unloaded)
        self.updated_at = self.column_of.get("updated_at")
        created = self.column_of.get("created_at")
        self.newest_first = (*((created,) if created is not None else ()), *self.keys)

    def key_values(self, id: Any) -> tuple[Any, ...]:
        """Return the values of the primary key's columns. Raises InvalidValue."""
        values = id if isinstance(id, tuple) else (id,)
        if len(values) != len(self.keys):
            raise InvalidValue(
                f"The key of {self.model.__name__} is ({', '.join(self.key_names)})",
                field=self.key_names[0],
            )
        self._check(dict(zip(self.key_names, values, strict=True)))
        return values

    def unique(self, names: Sequence[str]) -> UniqueKey | None:
        """Return what keeps the values of these attributes unique: a constraint or an index.

        One that holds for every row comes before a partial index.
        """
        columns = {self.column_of[name] for name in names if name in self.column_of}
        parts = [part for part in self._unique.values() if {*part.columns} == columns]
        parts.sort(key=is_partial)
        return parts[0] if parts and len(columns) == len(names) else None

    def unique_by(self, constraint: str | None) -> Sequence[str]:
        """Return the attributes that a constraint or index keeps unique, by its name."""
        part = unique_keys(adopted(self.table)).get(constraint or "")
        return self.attributes(column.name for column in part.columns) if part is not None else ()

    def checked_by(self, constraint: str | None) -> Sequence[str]:
        """Return the attributes that a check constraint is about, by its name."""
        for each in self.table.constraints:
            if constraint and isinstance(each, CheckConstraint) and each.name == constraint:
                words = _WORD.findall(str(each.sqltext))
                return [name for name, column in self.column_of.items() if column.name in words]
        return []

    def attributes(self, columns: Iterable[str]) -> Sequence[str]:
        """Return the attributes of columns, by their names in the database; a name that is none
        stays."""
        known = {column.name: name for name, column in self.column_of.items()}
        return [known.get(name, name) for name in columns]

    def has_key_in(self, keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
        """Return whether a row has one of these primary keys."""
        if len(self.keys) == 1:
            return self.keys[0].in_([key for (key,) in keys])
        return tuple_(*self.keys).in_(keys)

    def has_version(self, version: int) -> ColumnElement[bool]:
        """Return whether a row has that version.

        Raises:
            InvalidRequest: the model has no versions.
            InvalidValue: no row has such a version.
        """
        if self.version is None:
            raise InvalidRequest(f"{self.model.__name__} has no versions")
        self._check({self.name_of[self.version]: version})
        return self.version == version

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """Return the primary key of a row."""
        if self._key_place is not None:
            return (row[self._key_place],)
        return tuple(row[place] for place in self._key_places)

    def readable(self, row: Row) -> Row:
        """Return the columns that are read of a row that has every column."""
        if not self.hidden:
            return row
        pairs = zip(self.column_of, row, strict=True)
        return tuple([value for name, value in pairs if name not in self.hidden])

    def object(self, row: Row) -> Model:
        """Return an object with the row's values, as a session leaves one that it has let go of."""
        instance = self.mapper.class_manager.new_instance()
        self._fill(instance, row)
        if self._has_load_listeners:  # a @reconstructor is one
            state = instance_state(instance)
            state.manager.dispatch.load(state, None)
        return instance

    def objects(self, rows: Sequence[Row]) -> list[Model]:
        """Return objects with the rows' values, in their order; see `object`."""
        with _garbage_left():
            if self._has_load_listeners or self.floats:
                return [*map(self.object, rows)]
            return self._plain_objects(rows)

    def _plain_objects(self, rows: Sequence[Row]) -> list[Model]:
        """Return objects of a model that nothing else has to be done for."""
        model, names, make_state = self.model, self.loaded_names, self._make_state
        objects = []
        for row in rows:
            instance = model.__new__(model)
            held = instance.__dict__
            held[DEFERRED] = make_state
            held.update(zip(names, row, strict=False))
            objects.append(instance)
        return objects

    def stored(self, instance: Model, row: Row) -> Model:
        """Return the same object, now as it is stored.

        Args:
            row: ABSENT for what did not come back.
        """
        state = instance_state(instance)
        if any(map(is_, row, repeat(ABSENT))):
            self._fill_in_part(instance, state, row)
        else:
            self._fill(instance, row)
        mark_clean(state)
        return instance

    def _fill_in_part(self, instance: Any, state: Any, row: Row) -> None:
        pairs = zip(self.loaded_names, row, strict=False)
        known = {name: value for name, value in pairs if value is not ABSENT}
        instance.__dict__.update(known)
        if known.keys() >= {*self.key_names}:
            self._make_state.identify(state, self.key_of(row))
        state.callables = self.loaders_without(known)

    def loaders_without(self, known: Iterable[str]) -> dict[str, Loader]:
        """Return what is called for the attributes of an object that holds some columns alone."""
        missing = {*self.loaded_names}.difference(known)
        return self.unloaded | {name: column_not_returned(self.model, name) for name in missing}

    def _fill(self, instance: Any, row: Row) -> None:
        # A row may hold more: columns that only the order needs.
        held = instance.__dict__
        held.update(zip(self.loaded_names, row, strict=False))
        for name in self.floats:
            # What RETURNING gives on SQLite has not got its column's type yet.
            if isinstance(held[name], int):
                held[name] = float(held[name])
        self._make_state.identify(instance_state(instance), self.key_of(row))

    def values(self, instance: Model) -> dict[str, Any]:
        """Return what an object holds, by the names of attributes; what it does not hold is left
        out.

        Raises:
            InvalidValue: it holds related objects, which are not stored with it, or a value that
                only the service sets.
            TypeError: it is of another class.
        """
        check_instances(self.model, (instance,))
        held = instance_dict(instance)
        self.check_addable(held)
        values = {name: held[name] for name in self.column_of if name in held}
        for name in self.key_names:
            if values.get(name, name) is None:  # SQLModel's way to say that it is not known yet
                del values[name]
        self._check(values)
        return values

    def check_addable(self, held: Mapping[str, Any]) -> None:
        """Raise InvalidValue for a new object that holds what is not added with it: related
        objects, or values that only the service sets."""
        for name in self.relationships:
            if held.get(name):
                raise InvalidValue(
                    f"{name}: related objects are not stored with a row; set its foreign key",
                    field=name,
                )
        for name in self.not_added:
            if name in held:
                raise InvalidValue(f"{name} is set by the server", field=name)

    def _check(self, values: dict[str, Any]) -> None:
        """Normalize values as the database returns them. Raises InvalidValue."""
        for name, accepted in self._accepted.items():
            value = values.get(name)
            if value is not None:
                values[name] = accepted(value)

    def is_checked(self, name: str) -> bool:
        """Return whether the values of a column are all of its type once they are checked."""
        return name in self._accepted

    def checked(self, name: str, values: list[Any]) -> list[Any]:
        """Return values of one column as they come back; the same list where they already are.

        Args:
            values: None and ABSENT are any column's.

        Raises:
            InvalidValue: an engine does not take one.
        """
        accepted, plain = self._accepted.get(name), self._plain.get(name)
        if accepted is None:
            return values
        present = [value for value in values if value is not None and value is not ABSENT]
        if plain is not None and plain(present):
            return values
        converted = map(accepted, present)
        return [value if value is None or value is ABSENT else next(converted) for value in values]

    def changes(self, values: Mapping[str, Any], *, by_service: bool) -> dict[Column[Any], Any]:
        """Return the columns and values of an update.

        Raises:
            InvalidValue: there is no such column, or it is not for the caller to set.
        """
        values = dict(values)
        self._check(values)
        changes = {}
        for name, value in values.items():
            column = self.column_of.get(name)
            if column is None:
                raise InvalidValue(f"{name}: {self.model.__name__} has no such column", field=name)
            if (
                column.primary_key
                or column is self.version
                or column is self.updated_at
                or (name in ONLY_BY_SERVICE and not by_service)
                or name in self.not_changed
            ):
                raise InvalidValue(f"{name} is set by the server", field=name)
            changes[column] = value
        return changes

    def counted_up(self) -> dict[Column[Any], Any]:
        """Return what every update of a row sets beside its changes."""
        return {} if self.version is None else {self.version: self.version + 1}


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Leave garbage for later: none of the many objects that are made in the block is any, and
    looking through them takes more time than making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _only_table(mapper: Mapper[Any]) -> Table:
    """Return the table of a class that has one to itself. Raises NotSupported."""
    name, table = mapper.class_.__name__, mapper.local_table
    if len(mapper.tables) != 1 or not isinstance(table, Table):
        raise NotSupported(f"{name} is spread over several tables; map it to one")
    if mapper.polymorphic_on is not None:
        raise NotSupported(
            f"{name} shares its table with other classes (polymorphic_on); give each a table of "
            "its own"
        )
    listeners = [event for event in EVENTS if getattr(mapper.dispatch, event)]
    if listeners:
        raise NotSupported(
            f"{name} has listeners for {', '.join(listeners)}, which repositories do not run; "
            "write its rows in a session, or do that work where the rows are written"
        )
    return table


def _names(
    declared: Mapping[str, ColumnAccess], operation: str, by_service: bool
) -> frozenset[str]:
    """Return the attributes that the caller may not use."""
    if by_service:
        return frozenset()
    return frozenset(name for name, access in declared.items() if getattr(access, operation))
