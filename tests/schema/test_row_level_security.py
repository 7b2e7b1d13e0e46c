"""Which tables of a database have row level security."""

from tests.schema.application import Application
from tests.schema.callers import run

from amphibase.schema.row_level_security import guarded_tables


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


async def test_sqlite_has_no_row_level_security(sqlite_application: Application) -> None:
    async with sqlite_application.database.read() as connection:
        assert await connection.run_sync(guarded_tables) == []
