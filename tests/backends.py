"""The records of the backends that the contract is tested on, and the callers."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from psycopg import AsyncConnection
from sqlalchemy import Executable, Table, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import sort_tables

from amphibase import ANONYMOUS, SERVICE, Amphibase, Base, Caller
from amphibase.backend import Backend, Model, Repository
from amphibase.database.url import to_conninfo
from amphibase.models import User
from amphibase.settings.application import Settings
from amphibase.sql.backend import SqlBackend

SECRET = "a secret of the tests that is long enough even for the longest of hashes"


def sql_backend_of(app: FastAPI) -> SqlBackend:
    """Return the SQL backend of a started application."""
    db: Amphibase = app.state.amphibase
    backend = db.state.backend
    assert isinstance(backend, SqlBackend)
    return backend


ANN = Caller("authenticated", UUID(int=0xA), claims={"email": "ann@example.com"})
BOB = Caller("authenticated", UUID(int=0xB), claims={"email": "bob@example.com"})
ADMIN = Caller("authenticated", UUID(int=0xC), claims={"app_metadata": {"role": "admin"}})


def _of_postgres(kind: str) -> pytest.MarkDecorator:
    """Try one of the two ways to limit access on Postgres; the other where there is time."""
    long = {"predicate", "rls", "hybrid"} - {kind}
    kinds = ("sqlite", "predicate", "rls", "supabase", "hybrid")
    params = [
        pytest.param(each, marks=pytest.mark.long) if each in long else each for each in kinds
    ]
    return pytest.mark.parametrize("shared_records", params, indirect=True)


POLICIES_ON_POSTGRES = _of_postgres("rls")
"""Of filters and orders, which predicates on SQLite limit as those on Postgres do."""

PREDICATES_ON_POSTGRES = _of_postgres("predicate")
"""Of values, which Postgres takes by COPY from all callers where no policy decides."""

ONE_DATABASE = ["sqlite", pytest.param("postgres", marks=pytest.mark.long)]
"""Of what HTTP decides before a database hears of it, or what the contract tests on each."""

ACCOUNTS = pytest.mark.parametrize(
    "backend_settings",
    [
        "sqlite",
        "postgres",
        pytest.param("combined", marks=pytest.mark.long),
        "supabase",
        pytest.param("supabase-remote", marks=pytest.mark.long),
        "supabase-database",
    ],
    indirect=True,
)
"""Of accounts: a combined backend has those of one of its parts, here of Postgres."""

CALLERS = {"anonymous": ANONYMOUS, "ann": ANN, "bob": BOB, "admin": ADMIN, "service": SERVICE}


@dataclass(frozen=True)
class Records:
    """A backend on a database that lasts for many tests; `clear` empties it between them."""

    name: str
    backend: Backend = field(repr=False)
    settings: Settings = field(repr=False)  # asyncio writes the results of tasks twice for each
    owner_url: str | None = None
    """The database itself, as the tables' owner, where the backend has no sessions."""

    @property
    def sql(self) -> SqlBackend:
        """The backend, for tests of what only an SQL database has."""
        assert isinstance(self.backend, SqlBackend)
        return self.backend

    @property
    def is_sqlite(self) -> bool:
        return self.name == "sqlite"

    def of(self, model: type[Model], caller: Caller = SERVICE) -> Repository[Model]:
        """The rows of a model as a caller sees them, by default the service."""
        return self.backend.repository(model, caller)

    async def add_profiles(self) -> None:
        """Make the profiles of the people."""
        people = {"ann": ANN, "bob": BOB, "admin": ADMIN}
        await self.of(User).add_many(
            [User(id=who.user_id, email=f"{name}@example.com") for name, who in people.items()]
        )

    async def execute(self, *statements: Executable) -> None:
        """Run statements of SQL, which the backend itself may not have."""
        if self.owner_url is None:
            async with self.backend.session(SERVICE) as session:
                for statement in statements:
                    await session.execute(statement)
            return
        engine = create_async_engine(self.owner_url)
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(statement)
        await engine.dispose()

    async def clear(self) -> None:
        """Delete the rows of the tests' models."""
        statements = _deletions(tuple(Base.metadata.tables.values()))
        if self.owner_url is not None:
            conninfo = to_conninfo(make_url(self.owner_url))
            async with await AsyncConnection.connect(conninfo) as connection:
                await connection.execute(statements.encode())
        elif self.is_sqlite:
            async with self.sql.database.write() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                await raw.executescript(f"BEGIN IMMEDIATE; {statements}; COMMIT")
        else:
            await self.execute(text(statements))


@cache
def _deletions(tables: tuple[Table, ...]) -> str:
    """The statements that empty those of the tables that are the tests' models'."""
    names = [table.name for table in sort_tables(tables) if table.name.startswith("t_")]
    return "; ".join(f'DELETE FROM "{name}"' for name in reversed(names))
