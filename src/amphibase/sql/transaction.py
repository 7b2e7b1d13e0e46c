"""A transaction of one caller on an SQL database."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from amphibase.backend import Caller, Capabilities, Model
from amphibase.database.executor import Executor
from amphibase.database.functions import call_function
from amphibase.database.transaction import TransactionExecutor
from amphibase.sql.records.repository import SqlRepository

MakeRepository = Callable[[type[Any], Caller, Executor], SqlRepository[Any]]


class SqlTransaction:
    """What one caller does, all or none of it.

    Args:
        make: a repository of a model for a caller, on an executor.
    """

    def __init__(
        self,
        caller: Caller,
        executor: TransactionExecutor,
        make: MakeRepository,
        capabilities: Capabilities,
    ) -> None:
        self.caller = caller
        self._executor = executor
        self._make = make
        self._capabilities = capabilities

    @property
    def session(self) -> AsyncSession:
        return self._executor.session

    def repository(self, model: type[Model]) -> SqlRepository[Model]:
        return self._make(model, self.caller, self._executor)

    async def call(self, function: str, *, returns: Any = Any, **arguments: Any) -> Any:
        self._capabilities.require("stored_functions")
        async with self._executor.writing(self.caller) as connection:
            return await call_function(connection, function, returns, arguments)

    def nested(self) -> AbstractAsyncContextManager[None]:
        return self._executor.nested()
