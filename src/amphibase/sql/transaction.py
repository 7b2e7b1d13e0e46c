"""A transaction of one caller in an SQL home."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from amphibase.backend import Caller, Model
from amphibase.database.executor import Executor, TransactionExecutor
from amphibase.database.functions import call_function
from amphibase.errors import NotSupported
from amphibase.sql.records.repository import SqlRepository

NO_FUNCTIONS = "SQLite has no stored functions; call() needs Postgres"

MakeRepository = Callable[[type[Any], Caller, Executor], SqlRepository[Any]]


class SqlTransaction:
    """What one caller does, all or none of it.

    Args:
        make: a repository of a model for a caller, on an executor.
    """

    def __init__(
        self, caller: Caller, executor: TransactionExecutor, make: MakeRepository, dialect: str
    ) -> None:
        self.caller = caller
        self._executor = executor
        self._make = make
        self._dialect = dialect

    def repository(self, model: type[Model]) -> SqlRepository[Model]:
        return self._make(model, self.caller, self._executor)

    async def call(self, function: str, *, returns: Any = Any, **arguments: Any) -> Any:
        if self._dialect == "sqlite":
            raise NotSupported(NO_FUNCTIONS)
        async with self._executor.writing(self.caller) as connection:
            return await call_function(connection, function, returns, arguments)

    def nested(self) -> AbstractAsyncContextManager[None]:
        return self._executor.nested()
