"""From SQLite to a Supabase project, a Postgres, a project again and back: what was there is there.

Rows are written and read by SQLAlchemy: nothing here is shared with what moves them.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, event
from tests.move.schemas import Application, applications
from tests.move.test_tables import expose
from tests.servers import Databases

from amphibase.column_types import DECIMAL_COLLATION, compare_decimals
from amphibase.database.url import parse_url
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint, Role, SqlEndpoint, SupabaseEndpoint
from amphibase.move.journal import Journal
from amphibase.move.plan import EndPlan, Plan, TablePlan
from amphibase.move.project import client_of
from amphibase.move.quarantine import Quarantine
from amphibase.move.stage import Outcome
from amphibase.move.tables.data_api import DataApiTables
from amphibase.move.tables.stage import TablesStage
from amphibase.testing.supabase import LocalSupabase

SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    """Open a database; SQLite with its foreign keys and the collation of decimals."""
    engine = create_engine(parse_url(url).set(drivername=_driver(url)))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _: object) -> None:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.create_collation(DECIMAL_COLLATION, compare_decimals)

    yield engine
    engine.dispose()


def _driver(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


async def move(application: Application, source: Endpoint, target: Endpoint) -> None:
    """Move all tables and check that both sides are found equal."""
    prefixes = ["" if _is_sqlite(end) else "public." for end in (source, target)]
    tables = tuple(
        TablePlan(
            source=prefixes[0] + table.name,
            target=prefixes[1] + table.name,
            key=tuple(column.name for column in table.primary_key),
            columns={column.name: column.name for column in table.columns},
        )
        for table in application.metadata.sorted_tables
    )
    plan = Plan(
        name="p", source=EndPlan(address="sql:a"), target=EndPlan(address="sql:b"), tables=tables
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.toml"
        with Journal(path) as journal:
            quarantine = Quarantine(path)
            stage = TablesStage(MoveContext(plan, source, target, journal, quarantine))
            try:
                assert [c for c in await stage.check() if c.outcome is Outcome.FAIL] == []
                await stage.run()
                await stage.reconcile()
                assert await stage.reconcile() == 0
                assert quarantine.rows() == 0
                assert (await stage.verify()).differences == []
                await stage.finish()
            finally:
                await stage.close()


def _is_sqlite(end: Endpoint) -> bool:
    return end.database is not None and end.database.get_backend_name() == "sqlite"


async def round_trip(
    application: Application, supabase: LocalSupabase, databases: Databases
) -> None:
    key = SecretStr(supabase.service_role_key)
    with tempfile.TemporaryDirectory() as folder, databases.new() as postgres:
        first, last = (f"sqlite:///{folder}/{name}.db" for name in ("first", "last"))
        with (
            engine_of(first) as at_first,
            engine_of(last) as at_last,
            engine_of(postgres) as on_postgres,
            engine_of(supabase.db_url) as of_project,
        ):
            for engine in (at_first, at_last, on_postgres):
                application.metadata.create_all(engine)
            with at_first.begin() as connection:
                application.write(connection)
                there = application.read(connection)
            ends = [SqlEndpoint(Role.SOURCE, parse_url(url), "") for url in (first, postgres, last)]
            project = SupabaseEndpoint(Role.TARGET, supabase.url, key)
            for source, target, engine in (
                (ends[0], project, of_project),
                (project, ends[1], on_postgres),
                (ends[1], project, of_project),
                (project, ends[2], at_last),
            ):
                if target is project:
                    application.metadata.drop_all(of_project)
                    application.metadata.create_all(of_project)
                    names = [f'"{table}"' for table in application.metadata.tables]
                    async with DataApiTables(client_of(project)) as api:
                        await expose(api, supabase.db_url, "SELECT", *names)
                await move(application, source, target)
                with engine.connect() as connection:
                    assert application.read(connection) == there
            application.metadata.drop_all(of_project)


@settings(max_examples=3, deadline=None, suppress_health_check=SLOW)
@given(application=applications())
async def test_a_round_trip_over_every_kind_of_backend_changes_nothing(
    supabase: LocalSupabase, databases: Databases, application: Application
) -> None:
    await round_trip(application, supabase, databases)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(application=applications())
async def test_many_round_trips_over_every_kind_of_backend_change_nothing(
    supabase: LocalSupabase, databases: Databases, application: Application
) -> None:
    await round_trip(application, supabase, databases)
