"""Which tables of a database have row level security."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests import commands
from tests.conftest import SECRET
from tests.schema.application import Application, on_all_chains
from tests.schema.callers import run
from tests.servers import Databases

from amphibase import Amphibase, ConfigurationError, Settings, load_settings, open_backend
from amphibase.database.engine import Database
from amphibase.schema.row_level_security import guarded_tables


@on_all_chains
async def test_tables_with_a_policy_or_with_row_level_security_on_are_listed(
    postgres_application: Application,
) -> None:
    """Those of the application alone: neither accounts and files, nor other schemas, count."""
    await postgres_application.upgrade()
    await run(
        postgres_application,
        *(f"CREATE TABLE {name} (id int)" for name in ("plain", "enabled", "written")),
        "CREATE SCHEMA other",
        "CREATE TABLE other.jobs (id int)",
        "ALTER TABLE enabled ENABLE ROW LEVEL SECURITY",
        *(
            f"CREATE POLICY theirs ON {table} USING (true)"
            for table in ("written", "other.jobs", "auth.users", "storage.objects")
        ),
    )
    async with postgres_application.database.read() as connection:
        assert await connection.run_sync(guarded_tables) == ["enabled", "written"]
        await connection.execute(text("SET LOCAL search_path = public, auth, storage"))
        assert await connection.run_sync(guarded_tables) == ["enabled", "written"]


async def test_sqlite_has_no_row_level_security(sqlite_application: Application) -> None:
    async with sqlite_application.database.read() as connection:
        assert await connection.run_sync(guarded_tables) == []


@pytest.fixture
async def guarded(prepared_postgres: str, databases: Databases) -> AsyncIterator[str]:
    """A database that is up to date, with a policy on one of its tables."""
    with databases.new(template=prepared_postgres) as url:
        database = Database(url)
        async with database.write() as connection:
            await connection.execute(text("CREATE POLICY theirs ON t_notes USING (false)"))
        await database.close()
        yield url


def settings_of(url: str, **values: Any) -> Settings:
    return load_settings(**{"database_url": url, "secret_key": SECRET, **values})


async def test_production_does_not_start_where_policies_would_decide_nothing(guarded: str) -> None:
    with pytest.raises(ConfigurationError, match=r"RLS is not set.* t_notes; set RLS=true, or"):
        async with open_backend(settings_of(guarded, environment="production")):
            pass
    async with open_backend(settings_of(guarded, environment="production", rls=False)):
        pass


@pytest.mark.parametrize(("rls", "level"), [(None, "WARNING"), (False, "INFO")])
async def test_development_says_at_each_start_that_policies_decide_nothing(
    guarded: str, caplog: pytest.LogCaptureFixture, rls: bool | None, level: str
) -> None:
    caplog.set_level("INFO", "amphibase.schema")
    for _ in range(2):
        async with open_backend(settings_of(guarded, rls=rls)):
            pass
    items = [(each.levelname, "t_notes" in each.message) for each in caplog.records]
    assert items == [(level, True)] * 2


async def test_a_database_without_policies_starts_without_a_word(
    prepared_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_backend(settings_of(prepared_url, environment="production")):
        pass
    assert not caplog.records


@pytest.mark.parametrize("rls", [None, False])
async def test_an_application_that_requires_policies_starts_with_them_alone(
    prepared_url: str, rls: bool | None
) -> None:
    db = Amphibase(settings_of(prepared_url, rls=rls), requires_rls=True)
    with pytest.raises(ConfigurationError, match="set RLS=true"):
        async with db.started():
            pass


def test_the_check_of_a_database_names_the_tables(guarded: str, tmp_path: Path) -> None:
    done = commands.run(tmp_path, {"DATABASE_URL": guarded}, "db", "check")
    assert "RLS is not set" in done.stdout
    assert "t_notes" in done.stdout
