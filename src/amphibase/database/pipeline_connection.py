"""Connections as `SqlConnection` describes them, which execute statements on libpq's pipeline."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Executable, ScalarResult
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData

from amphibase.database.compiled_call import LIBPQ, CallCache, CompiledCall
from amphibase.database.impersonation import Impersonation, RoleNotAllowed
from amphibase.database.pool import PipelinePool
from amphibase.database.pool_transaction import PoolTransaction
from amphibase.database.sql_connection import NO_VALUES, Values
from amphibase.database.statement import Call

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Run = Callable[..., Awaitable["list[PGresult]"]]


class PipelineResult(IteratorResult[*tuple[Any, ...]]):
    """The rows that a statement returned.

    Attributes:
        rowcount: how many rows it changed, or returned.
    """

    def __init__(self, keys: Sequence[str], rows: Sequence[Sequence[Any]], rowcount: int) -> None:
        super().__init__(_metadata(tuple(keys)), iter(rows))
        self.rowcount = rowcount


class PipelineConnection:
    """Executes statements, each in a round trip.

    Args:
        run: runs calls, as `PipelinePool.run_results` does.
        calls: the compiled statements of the database.
    """

    dialect = LIBPQ

    def __init__(self, pool: PipelinePool, calls: CallCache, run: Run) -> None:
        self._pool = pool
        self._calls = calls
        self._run = run

    async def execute(
        self, statement: Executable, parameters: Values | Sequence[Values] | None = None
    ) -> PipelineResult:
        """Execute a statement, or with several values once for each of them.

        Raises:
            psycopg.Error: the database rejects it.
            InvalidValue: a value is not of its column's type.
        """
        several = _several(parameters)
        compiled, constants = self._calls.compiled(statement, several[0])
        results = await self._run(*[compiled.call(values, constants) for values in several])
        return self._result(compiled, results)

    async def fetch(self, *statements: tuple[Executable, Values]) -> list[PipelineResult]:
        """Execute several statements, each with its values, in one round trip."""
        compiled = [self._calls.compiled(*each) for each in statements]
        calls = [
            each.call(values, constants)
            for (each, constants), (_, values) in zip(compiled, statements, strict=True)
        ]
        results = await self._run(*calls)
        return [
            self._result(each, [result])
            for (each, _), result in zip(compiled, results, strict=True)
        ]

    async def scalar(self, statement: Executable, parameters: Values | None = None) -> Any:
        """Return the first column of the first row; None where there is none."""
        return (await self.execute(statement, parameters)).scalar()

    async def scalars(
        self, statement: Executable, parameters: Values | None = None
    ) -> ScalarResult[Any]:
        """Return the first column of each row."""
        return (await self.execute(statement, parameters)).scalars()

    def _result(self, compiled: CompiledCall, results: "Sequence[PGresult]") -> PipelineResult:
        keys, last = compiled.keys, results[-1]
        rowcount = sum(result.command_tuples or 0 for result in results)
        if keys is None:
            keys = [(last.fname(place) or b"").decode() for place in range(last.nfields)]
        if not keys:  # an INSERT may return a key that it was not asked for
            return PipelineResult((), (), rowcount)
        (rows,) = self._pool.load([last])
        return PipelineResult(keys, compiled.rows(rows), rowcount)


class PipelineTransaction(PipelineConnection):
    """Executes statements in one transaction."""

    def __init__(self, pool: PipelinePool, calls: CallCache, transaction: PoolTransaction) -> None:
        super().__init__(pool, calls, transaction.run)
        self._transaction = transaction

    def queue(self, *statements: tuple[Executable, Values]) -> None:
        """Execute statements with the next one, or with the commit where there is none; an error of
        theirs is raised there."""
        for statement, values in statements:
            compiled, constants = self._calls.compiled(statement, values)
            self._transaction.queue(compiled.call(values, constants))

    async def run(self, *calls: Call) -> "list[list[tuple[Any, ...]]]":
        """Run calls in one round trip, and return the rows of each."""
        return self._pool.load(await self._transaction.run(*calls))

    async def impersonate(self, impersonation: Impersonation) -> None:
        """Run the rest of the transaction as another role, one that `authenticator` may assume.

        Raises:
            RoleNotAllowed: it may not.
        """
        (rows,) = await self.run(impersonation.call(of_authenticator=True))
        if not impersonation.is_allowed(rows):
            raise RoleNotAllowed(impersonation.role)

    @asynccontextmanager
    async def undone(self) -> AsyncIterator[None]:
        """Undo what the block does, its role too, however it ends."""
        async with self._transaction.undone():
            yield


@lru_cache(1024)
def _metadata(keys: tuple[str, ...]) -> SimpleResultMetaData:
    return SimpleResultMetaData(keys)


def _several(parameters: Values | Sequence[Values] | None) -> Sequence[Values]:
    if parameters is None:
        return (NO_VALUES,)
    return (parameters,) if isinstance(parameters, Mapping) else parameters
