"""Compiled SELECTs: SQLAlchemy compiles each once, and queries bind values to it.

On Postgres the text goes over libpq's pipeline (`pool.py`), with SQLAlchemy's conversions of values
and rows; on SQLite the engine runs the statement itself.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Float, Numeric, Select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import TypeEngine

from amphibase.database.statement import Call, Statement
from amphibase.errors import InvalidRequest, InvalidValue
from amphibase.private_names.sqlalchemy import (
    bind_processors,
    cache_key,
    expand,
    original_name,
)
from amphibase.records.values import Check, Row, operand_checker, reject

# The dialect that converts values as psycopg does, with the placeholders that libpq reads ($1).
_LIBPQ: Dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

MAX_CACHED = 1000
MAX_LISTED = 30_000
"""How many values IN may hold; below the parameters of one statement on Postgres (65,535) and
SQLite (32,766)."""
NUMERIC_OID, DOUBLE_OID = 1700, 701
NO_VALUES: Mapping[str, Any] = {}


class CompiledSelect:
    """A SELECT, compiled when it is first needed.

    Args:
        select: its named parameters (`bindparam`) get their values from each query, and so do
            its constants, by their place among the parameters of `key`.
        key: the cache key of the select.
    """

    def __init__(self, select: Select[Any], key: Any = None) -> None:
        self.select = select
        self._key = key

    @cached_property
    def _compiled(self) -> Any:
        return self.select.compile(dialect=_LIBPQ)

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
    def _statement(self) -> Statement:
        return Statement(self._compiled.string)

    @cached_property
    def _parameters(self) -> list[tuple[str, int | None, Any, Callable[[Any], Any] | None]]:
        """Of each placeholder: its name, its place in the key, its constant, and how to bind it."""
        compiled = self._compiled
        places = {}
        if self._key is not None:
            places = {id(bound): place for place, bound in enumerate(self._key.bindparams)}
        processors = bind_processors(compiled)
        return [
            (
                name,
                places.get(id(compiled.binds[name])),
                compiled.binds[name].effective_value,
                processors.get(name),
            )
            for name in compiled.positiontup or ()
        ]

    @cached_property
    def _converters(self) -> list[tuple[int, Callable[[Any], Any]]]:
        converters = [
            (index, _converter(column.type))
            for index, column in enumerate(self.select.selected_columns)
        ]
        return [(index, convert) for index, convert in converters if convert is not None]

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

    def call(self, values: Mapping[str, Any], constants: Sequence[Any] = ()) -> Call:
        """Return what `PipelinePool.run` takes, with the values as the driver wants them.

        Args:
            values: by the names of the parameters.
            constants: the bound parameters of the query's own cache key, where it is another
                statement than this with the same key.

        Raises:
            InvalidValue: a value is not of its column's type.
        """
        if self._compiled.post_compile_params:
            return self._expanded(values, constants)
        bound = []
        for name, place, constant, process in self._parameters:
            if name in values:
                value = values[name]
            elif place is not None and constants:
                value = constants[place].effective_value
            else:
                value = constant
            if process is not None:
                with fitting(name):
                    value = process(value)
            bound.append(value)
        return Call(self._statement, bound)

    def _expanded(self, values: Mapping[str, Any], constants: Sequence[Any]) -> Call:
        """A call of a statement whose text depends on its values: an IN has a placeholder for
        each."""
        compiled = self._compiled
        merged = dict(compiled.params)
        if constants:
            for place, known in enumerate(self._key.bindparams):
                if known in compiled.bind_names:
                    merged[compiled.bind_names[known]] = constants[place].effective_value
        merged |= values
        state = expand(compiled, merged)
        processors = {**bind_processors(compiled), **state.processors}
        parameters = {**merged, **state.additional_parameters}
        bound = []
        for name in state.positiontup or ():
            process = processors.get(name)
            with fitting(name):
                bound.append(process(parameters[name]) if process else parameters[name])
        return Call(Statement(state.statement), bound)

    def rows(self, raw: Sequence[Row]) -> Sequence[Row]:
        """Return the driver's rows with SQLAlchemy's types applied."""
        if not self._converters:
            return raw
        converted = []
        for row in raw:
            values = list(row)
            for index, convert in self._converters:
                values[index] = convert(values[index])
            converted.append(tuple(values))
        return converted


def _converter(type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    impl = type_.dialect_impl(_LIBPQ)
    kind = getattr(impl, "impl_instance", impl)
    kind = getattr(kind, "item_type", kind)  # of an array
    oid = DOUBLE_OID if isinstance(kind, Float) else NUMERIC_OID
    return impl.result_processor(_LIBPQ, oid if isinstance(kind, Float | Numeric) else None)


@contextmanager
def fitting(name: str) -> Iterator[None]:
    """Turn what a type says of a value that it cannot hold into InvalidValue."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, ArithmeticError):
        column = name.rpartition("_")[0] if name.rpartition("_")[2].isdigit() else name
        raise InvalidValue(f"{column}: not a value of the column's type", field=column) from None


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
