"""The records of the backends that the contract is tested on, and the callers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import event, text

from amphibase import ANONYMOUS, SERVICE, Base, Caller
from amphibase.backend import Model
from amphibase.database.pool import PipelinePool
from amphibase.models import User
from amphibase.settings import Settings
from amphibase.sql.backend import SqlBackend
from amphibase.sql.records.repository import SqlRepository

ANN = Caller("authenticated", UUID(int=0xA), claims={"email": "ann@example.com"})
BOB = Caller("authenticated", UUID(int=0xB), claims={"email": "bob@example.com"})
ADMIN = Caller("authenticated", UUID(int=0xC), claims={"app_metadata": {"role": "admin"}})
CALLERS = {"anonymous": ANONYMOUS, "ann": ANN, "bob": BOB, "admin": ADMIN, "service": SERVICE}


@dataclass(frozen=True)
class Records:
    """A backend on a database that lasts for many tests; `clear` empties it between them."""

    name: str
    backend: SqlBackend
    settings: Settings

    @property
    def is_sqlite(self) -> bool:
        return self.name == "sqlite"

    def of(self, model: type[Model], caller: Caller = SERVICE) -> SqlRepository[Model]:
        """The rows of a model as a caller sees them, by default the service."""
        return self.backend.repository(model, caller)

    async def settle(self) -> None:
        """Make the profiles of the people."""
        people = {"ann": ANN, "bob": BOB, "admin": ADMIN}
        await self.of(User).add_many(
            [User(id=who.user_id, email=f"{name}@example.com") for name, who in people.items()]
        )

    async def clear(self) -> None:
        """Delete the rows of the tests' models."""
        tables = [table for table in Base.metadata.sorted_tables if table.name.startswith("t_")]
        statements = [f'DELETE FROM "{table.name}"' for table in reversed(tables)]
        async with self.backend.database.write() as connection:
            if self.is_sqlite:
                for statement in statements:
                    await connection.execute(text(statement))
            else:
                await connection.exec_driver_sql("; ".join(statements))

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The statements that are sent meanwhile, without those that say who is asking."""
        sent: list[str] = []

        def note(statement: str) -> None:
            if "set_config" not in statement and not statement.startswith("BEGIN"):
                sent.append(statement)

        def execute(_: Any, __: Any, statement: str, *___: Any) -> None:
            note(statement)

        run = PipelinePool.run

        def run_noted(self: PipelinePool, *calls: Any) -> Any:
            for call in calls:
                note(call.statement.sql)
            return run(self, *calls)

        database = self.backend.database
        engines = {database.engine.sync_engine, database.readers.sync_engine}
        for engine in engines:
            event.listen(engine, "before_cursor_execute", execute)
        PipelinePool.run = run_noted  # type: ignore[method-assign]
        try:
            yield sent
        finally:
            PipelinePool.run = run  # type: ignore[method-assign]
            for engine in engines:
                event.remove(engine, "before_cursor_execute", execute)
