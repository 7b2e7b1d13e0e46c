"""Statements of SQLAlchemy as calls of libpq's pipeline: each is compiled once, with SQLAlchemy's
conversions of values and rows."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Dialect, Executable, Float, Numeric, UpdateBase
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.types import TypeEngine

from amphibase.database.statement import Call, Statement
from amphibase.errors import InvalidValue
from amphibase.private_names.sqlalchemy import bind_processors, cache_key, expand

LIBPQ: Dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
"""The dialect that converts values as psycopg does, with the placeholders that libpq reads ($1)."""

NUMERIC_OID, DOUBLE_OID = 1700, 701
MAX_CACHED = 1000


class CompiledCall:
    """A statement, compiled when it is first needed.

    Args:
        statement: its named parameters (`bindparam`) get their values from each call, and so do
            its constants, by their place among the parameters of `key`.
        key: the cache key of the statement.
        columns: which of a table's an INSERT or UPDATE sets by named values.
    """

    def __init__(self, statement: Any, key: Any = None, columns: Sequence[str] = ()) -> None:
        self.statement = statement
        self._key = key
        self._columns = columns

    @cached_property
    def _compiled(self) -> Any:
        columns = [*self._columns]
        return self.statement.compile(dialect=LIBPQ, column_keys=columns)

    @cached_property
    def _statement(self) -> Statement:
        return Statement(self._compiled.string)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        """Where the parameters are among those of the key; of an UPDATE, they are copies there."""
        bindparams = () if self._key is None else self._key.bindparams
        return {bound.key: place for place, bound in enumerate(bindparams)}

    @cached_property
    def _defaults(self) -> Mapping[str, Any]:
        """What makes the values of an INSERT's columns that have a default in Python."""
        return {column.key: column.default.arg for column in self._compiled.insert_prefetch}

    @cached_property
    def _parameters(self) -> list[tuple[str, int | None, Any, Callable[[Any], Any] | None]]:
        """Of each placeholder: its name, its place in the key, itself, and how to bind it."""
        compiled, places = self._compiled, self._places
        processors = bind_processors(compiled)
        return [
            (name, None if bound.required else places.get(bound.key), bound, processors.get(name))
            for name in compiled.positiontup or ()
            for bound in (compiled.binds[name],)
        ]

    @cached_property
    def keys(self) -> Sequence[str] | None:
        """The names of the columns that come back; None where only the database knows them."""
        columns = getattr(self.statement, "exported_columns", None)
        return None if columns is None else columns.keys()

    @cached_property
    def _converters(self) -> list[tuple[int, Callable[[Any], Any]]]:
        columns = getattr(self.statement, "exported_columns", ())
        converters = [(index, _converter(column.type)) for index, column in enumerate(columns)]
        return [(index, convert) for index, convert in converters if convert is not None]

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
        for name, place, parameter, process in self._parameters:
            if name in values:
                value = values[name]
            elif place is not None and constants:
                value = constants[place].effective_value
            else:
                value = self._own_value(name, parameter)
            bound.append(value if process is None else _processed(process, name, value))
        return Call(self._statement, bound)

    def _own_value(self, name: str, parameter: Any) -> Any:
        if name in self._defaults:
            return self._defaults[name](None)
        if parameter.required:
            raise InvalidRequestError(f"The parameter {name} has no value")
        return parameter.effective_value

    def _expanded(self, values: Mapping[str, Any], constants: Sequence[Any]) -> Call:
        """A call of a statement whose text depends on its values: an IN has a placeholder for
        each."""
        compiled, places = self._compiled, self._places
        merged = dict(values)
        for parameter, name in compiled.bind_names.items():
            place = None if parameter.required else places.get(parameter.key)
            if name not in values:
                if place is not None and constants:
                    merged[name] = constants[place].effective_value
                else:
                    merged[name] = self._own_value(name, parameter)
        state = expand(compiled, merged)
        processors = {**bind_processors(compiled), **state.processors}
        parameters = {**merged, **state.additional_parameters}
        bound = []
        for name in state.positiontup or ():
            process, value = processors.get(name), parameters[name]
            bound.append(value if process is None else _processed(process, name, value))
        return Call(Statement(state.statement), bound)

    def rows(self, raw: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
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


class CallCache:
    """Compiled statements by their cache keys."""

    def __init__(self) -> None:
        self._cached: OrderedDict[Hashable, CompiledCall] = OrderedDict()

    def compiled(
        self, statement: Executable, values: Mapping[str, Any]
    ) -> tuple[CompiledCall, Sequence[Any]]:
        """Return a statement compiled, and the constants of this one that has its text.

        Args:
            values: by the names of the parameters, or of the columns that an INSERT or UPDATE sets.
        """
        columns = tuple(values) if isinstance(statement, UpdateBase) else ()
        key = cache_key(statement)
        if key is None:  # it holds something that SQLAlchemy cannot compare
            return CompiledCall(statement, columns=columns), ()
        cached_as = (key.key, columns)
        compiled = self._cached.get(cached_as)
        if compiled is None:
            compiled = self._cached[cached_as] = CompiledCall(statement, key, columns)
            if len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
        else:
            self._cached.move_to_end(cached_as)
        return compiled, key.bindparams


def _converter(type_: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    impl = type_.dialect_impl(LIBPQ)
    kind = getattr(impl, "impl_instance", impl)
    kind = getattr(kind, "item_type", kind)  # of an array
    oid = DOUBLE_OID if isinstance(kind, Float) else NUMERIC_OID
    return impl.result_processor(LIBPQ, oid if isinstance(kind, Float | Numeric) else None)


def _processed(process: Callable[[Any], Any], name: str, value: Any) -> Any:
    """Return a value as its type converts it. Raises InvalidValue for one that it cannot hold."""
    try:
        return process(value)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, ArithmeticError):
        column = name.rpartition("_")[0] if name.rpartition("_")[2].isdigit() else name
        message = f"{column}: not a value of the column's type"
        raise InvalidValue(message, field=column) from None
