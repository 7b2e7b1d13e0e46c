"""Many new objects of one model, taken apart into columns."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from operator import is_
from typing import Any, Generic

from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.state import InstanceState

from amphibase.backend import Model
from amphibase.private_names.sqlalchemy import mark_all_clean
from amphibase.records.arguments import check_instances
from amphibase.records.model_info import ABSENT, ModelInfo
from amphibase.records.values import Row, are_expressions

Values = Mapping[str, Any]


class Batch(Generic[Model]):
    """What objects hold, as one list a column: what is true of a whole column is found out once,
    and not once a row. The objects themselves are not touched before they are stored.

    Attributes:
        columns: by the names of attributes; ABSENT where an object does not hold a value.

    Raises:
        InvalidValue: a value is none of its column's, or an object holds related objects.
        TypeError: an object is of another class.
    """

    def __init__(self, info: ModelInfo[Model], objects: Sequence[Model]) -> None:
        check_instances(info.model, objects)
        self.info = info
        self._objects = objects
        self._held: list[dict[str, Any]] = [instance_dict(each) for each in objects]
        if info.relationships or info.not_added:
            for held in self._held:
                info.check_addable(held)
        self._before = {
            name: [held.get(name, ABSENT) for held in self._held] for name in info.column_of
        }
        given = dict(self._given())
        self.columns = {name: info.checked(name, values) for name, values in given.items()}
        self._plain = {
            name: values
            for name, values in given.items()
            if self.columns[name] is values and info.is_checked(name)
        }
        self._unknown: set[str] = set()

    def _given(self) -> Iterator[tuple[str, list[Any]]]:
        """The columns, without the keys that are None: SQLModel's way to say that they are not
        known yet."""
        for name, values in self._before.items():
            if name in self.info.key_names and None in values:
                yield name, [ABSENT if value is None else value for value in values]
            else:
                yield name, values

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def has_expressions(self) -> bool:
        """Whether a value is an SQL expression."""
        return any(
            any(map(are_expressions, {*map(type, values)}))
            for name, values in self.columns.items()
            if self._plain.get(name) is not values
        )

    def rows(self) -> Iterator[Values]:
        """Return what each object holds."""
        for row in zip(*self.columns.values(), strict=True):
            pairs = zip(self.columns, row, strict=True)
            yield {name: value for name, value in pairs if value is not ABSENT}

    def take(self, rows: Sequence[Row]) -> None:
        """Hold the rows as they came back from the database."""
        turned = zip(*rows, strict=True)
        self.columns = dict(zip(self.info.names, map(list, turned), strict=True))
        for name in self.info.floats:
            # What RETURNING gives on SQLite has not got its column's type yet.
            self.columns[name] = [
                float(value) if isinstance(value, int) else value for value in self.columns[name]
            ]

    @property
    def keys(self) -> list[tuple[Any, ...]]:
        """The primary keys of the rows."""
        return [*zip(*(self.columns[name] for name in self.info.key_names), strict=True)]

    def find_unknown(self) -> None:
        """Find out which columns hold ABSENT: what the database filled in of rows that who adds
        them may not see."""
        self._unknown = {
            name for name, values in self.columns.items() if any(map(is_, values, repeat(ABSENT)))
        }

    def add_computed(self, rows: Sequence[Row]) -> None:
        """Take the values of the computed columns."""
        if self.info.computed_names:
            values = map(list, zip(*rows, strict=True))
            self.columns |= zip(self.info.computed_names, values, strict=True)

    @cached_property
    def identities(self) -> list[tuple[InstanceState[Any], Any]]:
        """The objects' states, each with the key by which sessions know the row."""
        info = self.info
        identity, _, token = info.mapper.identity_key_from_primary_key(())
        states = [instance_state(each) for each in self._objects]
        return [*zip(states, zip(repeat(identity), self.keys, repeat(token)), strict=False)]

    def stored(self) -> Sequence[Model]:
        """Return the same objects, now as they are stored."""
        for name, values in self.columns.items():
            if values is not self._before.get(name):
                for held, value in zip(self._held, values, strict=True):
                    held[name] = value
        for state, key in self.identities:
            state.key = key
            if self.info.unloaded:
                state.callables = dict(self.info.unloaded)
        if self._unknown:
            self._forget_unknown()
        states = (state for state, _ in self.identities)
        mark_all_clean(zip(states, self._held, strict=True))
        return self._objects

    def _forget_unknown(self) -> None:
        known = self.columns.keys() - self._unknown
        for held, (state, _) in zip(self._held, self.identities, strict=True):
            for name in self._unknown:
                if held[name] is ABSENT:
                    del held[name]
            state.callables = self.info.loaders_without(known | held.keys())
            if not self._unknown.isdisjoint(self.info.key_names):
                state.key = None
