"""Compiled SELECTs: SQLAlchemy compiles each once, and queries bind values to it.

On Postgres the text goes over libpq's pipeline (`pool.py`), with SQLAlchemy's conversions of values
and rows; on SQLite the engine runs the statement itself.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Select

from amphibase.database.compiled_call import MAX_CACHED, CompiledCall
from amphibase.database.sql_connection import NO_VALUES
from amphibase.database.statement import Call
from amphibase.errors import InvalidRequest
from amphibase.private_names.sqlalchemy import cache_key, original_name
from amphibase.records.values import Check, operand_checker, reject

MAX_LISTED = 30_000
"""How many values IN may hold; below the parameters of one statement on Postgres (65,535) and
SQLite (32,766)."""


class CompiledSelect(CompiledCall):
    """A SELECT, compiled when it is first needed, with the checks of the values that it compares.

    Args:
        select: its named parameters (`bindparam`) get their values from each query, and so do
            its constants, by their place among the parameters of `key`.
        key: the cache key of the select.
    """

    def __init__(self, select: Select[Any], key: Any = None) -> None:
        super().__init__(select, key)
        self.select = select

    @property
    def text(self) -> str:
        """The statement's text, the same for the same query whatever its values."""
        text: str = self._compiled.string
        return text

    def bound_values(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values of its parameters, in their order: those of a rule are its own.

        Args:
            values: of the others, by name.
        """
        compiled = self._compiled
        return [
            values[name] if name in values else compiled.binds[name].effective_value
            for name in compiled.positiontup or ()
        ]

    @cached_property
    def _checks(self) -> list[tuple[int, str, bool, Check]]:
        return [
            (place, original_name(bound), bound.expanding, check)
            for place, bound in enumerate(self._key.bindparams if self._key else ())
            if (check := operand_checker(bound.type)) is not None
        ]

    @cached_property
    def _lists(self) -> list[int]:
        return [place for place, bound in enumerate(self._key.bindparams) if bound.expanding]

    def check(self, constants: Sequence[Any]) -> None:
        """Return whether the values are such as the database can compare.

        Raises:
            InvalidValue: a value is none that its column could hold.
            InvalidRequest: there are more than can be sent.
        """
        listed = sum(len(constants[place].effective_value) for place in self._lists)
        if listed > MAX_LISTED:
            raise InvalidRequest(f"At most {MAX_LISTED} values can be looked for at once")
        for place, name, expanding, check in self._checks:
            bound = constants[place].effective_value
            for value in bound if expanding else (bound,):
                fault = None if value is None else check(value)
                if fault is not None:
                    reject(name, value, fault)


class Query(NamedTuple):  # built for every read, at a third of a dataclass's price
    """A compiled SELECT with the values of its parameters.

    Args:
        statement: the statement that the values come from; the compiled one where None.
        constants: the bound parameters of its cache key.
    """

    compiled: CompiledSelect
    values: Mapping[str, Any] = NO_VALUES
    statement: Select[Any] | None = None
    constants: Sequence[Any] = ()

    @property
    def select(self) -> Select[Any]:
        """What the engine runs."""
        return self.compiled.select if self.statement is None else self.statement

    def call(self) -> Call:
        """Return what the pipeline pool runs."""
        return self.compiled.call(self.values, self.constants)

    def fingerprint(self) -> str:
        """Return a text that is the same for the same filters, order and values only."""
        if self.statement is None:
            values = self.compiled.bound_values(self.values)
        else:
            values = [bound.effective_value for bound in self.constants]
        return f"{self.compiled.text} {values!r}"


class SelectCache:
    """Compiled statements of a backend, by the cache keys of the statements."""

    def __init__(self) -> None:
        self._cached: OrderedDict[Any, CompiledSelect] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], Select[Any]]) -> CompiledSelect:
        """Return the compiled statement of a key of one's own, built and compiled once."""
        compiled = self._cached.get(key)
        if compiled is None:
            return self._add(key, CompiledSelect(build()))
        self._cached.move_to_end(key)
        return compiled

    def query(self, statement: Select[Any]) -> Query:
        """Return a query for a statement that was just built.

        Raises:
            InvalidValue: it compares a column with a value of another type.
            InvalidRequest: it compares one with more values than can be sent.
        """
        key = cache_key(statement)
        if key is None:  # it holds something that SQLAlchemy cannot compare
            return Query(CompiledSelect(statement))
        compiled = self._cached.get(key.key)
        if compiled is None:
            compiled = self._add(key.key, CompiledSelect(statement, key))
        else:
            self._cached.move_to_end(key.key)
        compiled.check(key.bindparams)
        return Query(compiled, NO_VALUES, statement, key.bindparams)

    def _add(self, key: Hashable, compiled: CompiledSelect) -> CompiledSelect:
        self._cached[key] = compiled
        if len(self._cached) > MAX_CACHED:
            self._cached.popitem(last=False)
        return compiled
