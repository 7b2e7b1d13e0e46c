"""The executor of Postgres: it reads over libpq's pipeline."""

from collections.abc import Sequence

import psycopg

from amphibase.backend import Caller
from amphibase.database.caller_roles import CallerRoles
from amphibase.database.compiled import Query
from amphibase.database.engine import Database
from amphibase.database.errors import translate
from amphibase.database.executor import EngineExecutor
from amphibase.database.pool import PipelinePool
from amphibase.records.values import Row


class PipelineExecutor(EngineExecutor):
    """Runs queries over libpq's pipeline, one round trip and one implicit transaction each; what
    changes something, on the engine."""

    builds_json = True

    def __init__(self, database: Database, roles: CallerRoles, pool: PipelinePool) -> None:
        super().__init__(database, roles)
        self._pool = pool

    async def fetch(self, caller: Caller, *queries: Query) -> Sequence[Sequence[Row]]:
        impersonation = self._roles.impersonation(caller)
        before = () if impersonation is None else (impersonation.call(),)
        try:
            results = await self._pool.run(*before, *[query.call() for query in queries])
        except psycopg.Error as error:
            raise translate(error) or error from error
        results = results[len(before) :]
        return [query.compiled.rows(rows) for query, rows in zip(queries, results, strict=True)]
