"""The backends that random declarations are tried on, each with the rows of all cases."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import psycopg
from sqlalchemy import create_engine, insert
from tests.access import cases
from tests.access.cases import MODELS, Proof, caller
from tests.access.meaning import Declared, Who
from tests.backends import SECRET
from tests.schema.callers import set_claims
from tests.supabase_projects import settings_of, wait_for_schema
from tests.supabase_tables import owner_url

from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Repository
from amphibase.database.compiled import SelectCache
from amphibase.database.url import to_conninfo
from amphibase.errors import Forbidden, ForeignKeyViolation, InvalidValue, Unauthenticated
from amphibase.records.model_access import access_of
from amphibase.records.model_infos import ModelInfos
from amphibase.schema.grants import revoke_all
from amphibase.schema.migrations import roles
from amphibase.schema.policy_script import script
from amphibase.schema.search_functions import search_functions
from amphibase.settings.application import load_settings
from amphibase.sql.backend import SqlBackend
from amphibase.supabase.backend import SupabaseBackend
from amphibase.supabase.starter import grants_sql
from amphibase.testing.supabase import LocalSupabase

ROWS = cases.rows()
DENIED = (Forbidden, Unauthenticated, InvalidValue, ForeignKeyViolation)

Repositories = Callable[[type[Any]], Repository[Any]]
Work = Callable[[Repositories], Coroutine[Any, Any, Any]]


class Trial(Protocol):
    """A backend with the rows of all cases.

    Attributes:
        kind: one of `KINDS` or `supabase`.
        filters_by_rows: whether a filter may read other models without foreign keys to them.
    """

    kind: str
    filters_by_rows: bool

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run some work to its end."""

    def declare(self, declared: dict[str, Declared]) -> None:
        """Let the backend see the models with another access."""

    def of(self, model: type[Any], who: Who) -> Repository[Any]:
        """Return the rows of a model as somebody sees them."""

    async def outcome(self, who: Who, work: Work) -> str:
        """Return what comes of some work, and undo it."""

    def close(self) -> None:
        """Close the backend."""


class _Undone(Exception):
    """Undoes what a case has written."""


class SqlTrial:
    """On SQLite, or on Postgres with predicates or policies."""

    filters_by_rows = True

    def __init__(self, url: str, folder: Path, kind: str = "sqlite") -> None:
        self._runner = asyncio.Runner()
        self.kind = kind
        self._rls = rls = kind == "rls"
        self._settings = load_settings(
            database_url=url, secret_key=SECRET, data_dir=folder, rls=rls
        )
        self.run(self._open())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def _open(self) -> None:
        self._backend = SqlBackend(self._settings, load_keys(self._settings))
        async with self._backend.database.write() as connection:
            await connection.run_sync(Proof.metadata.create_all)
            if self._rls:
                await connection.run_sync(roles.create_missing)
            for name, rows in ROWS.items():
                if rows:
                    await connection.execute(insert(MODELS[name]), rows)

    def close(self) -> None:
        self.run(self._backend.close())
        self._runner.close()

    def declare(self, declared: dict[str, Declared]) -> None:
        cases.declare(declared)
        self._backend._infos = ModelInfos(self._backend.database.dialect)
        self._backend._selects = SelectCache()
        if self._rls:
            url = to_conninfo(self._backend.database.url)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(_policies().encode())

    def search_by_hand(self, model: type[Any], who: Who, query: str) -> list[int] | None:
        """Call the function that reads the search index, as somebody; None where they have none."""
        as_caller, table = caller(who), model.__table__
        functions = search_functions(table, access_of(model).read) if self._rls else ()
        names = [each.name for each in functions if as_caller.role in each.callers]
        if not names:
            return None
        call = f"SELECT id FROM amphibase.{names[0]}_by_index(%s) ORDER BY id"
        with psycopg.connect(to_conninfo(self._backend.database.url)) as connection:
            if as_caller.user_id is not None:
                set_claims(connection, {"sub": str(as_caller.user_id), **as_caller.claims})
            connection.execute(f"SET LOCAL ROLE {as_caller.role}".encode())
            return [id for (id,) in connection.execute(call.encode(), [query])]

    def of(self, model: type[Any], who: Who) -> Repository[Any]:
        return self._backend.repository(model, caller(who))

    async def outcome(self, who: Who, work: Work) -> str:
        result = ""
        try:
            async with self._backend.transaction(caller(who)) as transaction:
                result = "done" if await work(transaction.repository) else "nothing"
                raise _Undone
        except _Undone:
            return result
        except DENIED:
            return "denied"


class SupabaseTrial:
    """On the tables of a Supabase project, reached by its Data API."""

    kind = "supabase"
    filters_by_rows = False  # the Data API reads them along foreign keys alone

    def __init__(self, project: LocalSupabase, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._owner = psycopg.connect(project.db_url, autocommit=True)
        self._engine = create_engine(owner_url(project))
        Proof.metadata.create_all(self._engine)
        for model in MODELS:
            self._put_back(model)
        self._execute(grants_sql(Proof.metadata))
        wait_for_schema(project)
        settings = settings_of(project, data_dir=folder)
        self._backend = SupabaseBackend(settings, load_keys(settings))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._backend.close())
        self._runner.close()
        self._owner.close()
        self._engine.dispose()

    def declare(self, declared: dict[str, Declared]) -> None:
        cases.declare(declared)
        records = replace(self._backend._records, infos=ModelInfos("postgresql"))
        self._backend._records = records
        self._execute(_policies())

    def of(self, model: type[Any], who: Who) -> Repository[Any]:
        return self._backend.repository(model, caller(who))

    async def outcome(self, who: Who, work: Work) -> str:
        written: list[str] = []

        def repository(model: type[Any]) -> Repository[Any]:
            written.append(model.__name__)
            return self.of(model, who)

        try:
            result = "done" if await work(repository) else "nothing"
        except DENIED:
            result = "denied"
        for model in written:
            self._put_back(model)
        return result

    def _put_back(self, model: str) -> None:
        table: Any = MODELS[model].__table__
        with self._engine.begin() as connection:
            connection.execute(table.delete())
            if ROWS[model]:
                connection.execute(table.insert(), ROWS[model])

    def _execute(self, statements: str) -> None:
        self._owner.execute(statements.encode())


def _policies() -> str:
    """Write what the models declare; what an earlier declaration granted is no longer there."""
    revoked = [revoke_all(table.name) for table in Proof.metadata.sorted_tables]
    return ";\n".join([*revoked, script(Proof.metadata)])
