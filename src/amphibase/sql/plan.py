"""From an expression to rows: a plan is a SELECT compiled once; an executor runs it.

SQLAlchemy builds, compiles and converts. On Postgres the statement goes over libpq's pipeline
(`wire.py`), on SQLite over the engine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import psycopg
from sqlalchemy import Dialect, Select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from amphibase.sql.engine import Database, translate
from amphibase.sql.wire import Call, Statement, Wire

Row = tuple[Any, ...]

# The dialect that converts values as psycopg does, with the placeholders that libpq reads ($1).
_LIBPQ: Dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


class Plan:
    """A SELECT with named parameters (`bindparam`), ready to run many times."""

    def __init__(self, select: Select[Any]) -> None:
        self.select = select

    @cached_property
    def _compiled(self) -> Any:
        return self.select.compile(dialect=_LIBPQ)

    @cached_property
    def _statement(self) -> Statement:
        return Statement(self._compiled.string)

    @cached_property
    def _binders(self) -> list[tuple[str, Callable[[Any], Any] | None]]:
        processors = self._compiled._bind_processors
        return [(name, processors.get(name)) for name in self._compiled.positiontup or ()]

    @cached_property
    def _converters(self) -> list[tuple[int, Callable[[Any], Any]]]:
        found = [
            (index, column.type.dialect_impl(_LIBPQ).result_processor(_LIBPQ, None))
            for index, column in enumerate(self.select.selected_columns)
        ]
        return [(index, convert) for index, convert in found if convert is not None]

    def call(self, values: Mapping[str, Any]) -> Call:
        """What `Wire.run` takes, with the values as the driver wants them."""
        constants = self._constants
        bound = []
        for name, process in self._binders:
            value = values[name] if name in values else constants[name]
            bound.append(process(value) if process else value)
        return Call(self._statement, bound)

    @cached_property
    def _constants(self) -> Mapping[str, Any]:
        constants: Mapping[str, Any] = self._compiled.params
        return constants

    def rows(self, raw: Sequence[Row]) -> Sequence[Row]:
        """The driver's rows with SQLAlchemy's types applied."""
        if not self._converters:
            return raw
        converted = []
        for row in raw:
            values = list(row)
            for index, convert in self._converters:
                values[index] = convert(values[index])
            converted.append(tuple(values))
        return converted


@dataclass(frozen=True, slots=True)
class Query:
    """A plan with the values of its parameters."""

    plan: Plan
    values: Mapping[str, Any]


class Executor(Protocol):
    """Runs queries that read."""

    async def fetch(self, *queries: Query) -> Sequence[Sequence[Row]]:
        """The rows of each query, all read in one transaction. Raises Unavailable."""

    async def close(self) -> None:
        """Let go of every connection."""


class WireExecutor:
    """Runs queries over libpq's pipeline: one round trip, one implicit transaction."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def fetch(self, *queries: Query) -> Sequence[Sequence[Row]]:
        try:
            results = await self._wire.run(*[query.plan.call(query.values) for query in queries])
        except psycopg.Error as error:
            raise translate(error) or error from error
        return [query.plan.rows(rows) for query, rows in zip(queries, results, strict=True)]

    async def close(self) -> None:
        await self._wire.close()


class EngineExecutor:
    """Runs queries on the engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(self, *queries: Query) -> Sequence[Sequence[Row]]:
        async with self._database.read() as connection:
            return [
                [tuple(row) for row in await connection.execute(query.plan.select, query.values)]
                for query in queries
            ]

    async def close(self) -> None:
        """The engine is the database's to close."""


def build_executor(database: Database, *, size: int, pooled_by_transaction: bool) -> Executor:
    """The executor for a database.

    Args:
        size: how many connections it may hold.
        pooled_by_transaction: whether a pooler forbids prepared statements.
    """
    if database.dialect == "sqlite":
        return EngineExecutor(database)
    conninfo = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return WireExecutor(Wire(conninfo, size=size, prepare=not pooled_by_transaction))
