"""A copy of a Supabase project without its rows: a Postgres of its own, with the migrations."""

import asyncio
import secrets
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from amphibase.database.engine import Database
from amphibase.database.url import parse_url
from amphibase.errors import ConfigurationError
from amphibase.gateway import migrations, project
from amphibase.gateway.postgres import MINIMUM_MAJOR
from amphibase.models import Base
from amphibase.postgres import start
from amphibase.schema.migrations.chains import build_chains, chain_named
from amphibase.settings.application import load_settings
from amphibase.supabase.next_migration import NextMigration, next_migration


def migration_since(file: Path) -> NextMigration:
    """Return what the models have and the migrations up to a file do not create.

    Args:
        file: a migration of `supabase/migrations`, with those before it beside it.

    Raises:
        ConfigurationError: there is no such file, one of them fails, or there is no Postgres.
    """
    if not file.is_file():
        raise ConfigurationError(f"There is no file {file}")
    if file.suffix != ".sql":
        raise ConfigurationError(
            f"{file} is no migration; name your newest one, as in "
            "supabase/migrations/20261201000000_application.sql"
        )
    with TemporaryDirectory(prefix="amphibase-") as folder:
        supabase, revisions = Path(folder, "supabase"), Path(folder, "revisions")
        _copy_until(file, supabase / "migrations")
        revisions.mkdir()
        with start(Path(folder, "postgres"), fsync=False, least=MINIMUM_MAJOR) as server:
            url = server.create_database("project")
            return asyncio.run(_compare(url, supabase, revisions))


async def _compare(url: str, supabase: Path, revisions: Path) -> NextMigration:
    await project.prepare(url, secrets.token_urlsafe(24))
    await migrations.apply(url, supabase)
    settings = load_settings(
        backend="sql",
        records="sql",
        accounts="sql",
        files="sql",
        database_url=url,
        supabase_db_url=None,
        rls=True,
        migrations_dir=revisions,
    )
    database = Database(parse_url(url))
    chain = chain_named(build_chains(database, settings, Base.metadata), "application")
    try:
        async with database.engine.begin() as connection:
            return await connection.run_sync(next_migration, chain, revisions)
    finally:
        await database.close()


def _copy_until(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    if not migrations.FILE_NAME.fullmatch(file.name):
        shutil.copy(file, folder / f"1_{file.name}")
        return
    for path in sorted(file.parent.glob("*.sql")):
        if path.name <= file.name:
            shutil.copy(path, folder)
