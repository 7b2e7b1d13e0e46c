"""Extensions that migrations make, and what a server has of them."""

from pathlib import Path

import psycopg
import pytest
from tests.gateway.conftest import ProjectDatabase
from tests.gateway.statements import ask

from amphibase.errors import ConfigurationError
from amphibase.gateway.config_toml import ProjectConfig
from amphibase.gateway.migrations import apply, server_needs
from amphibase.postgres import ServerNeeds


async def test_what_supabase_has_and_this_server_has_not_is_skipped_with_a_warning(
    project: ProjectDatabase, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "migrations/1_a.sql").write_text(
        'create extension if not exists "uuid-ossp" with schema extensions;\n'
        "create extension pg_graphql;\ncomment on extension pg_graphql is 'graphs';\n"
    )
    assert await apply(project.owner, folder) == ["1_a.sql"]
    items = [record.getMessage() for record in caplog.records]
    assert len(items) == 1
    assert items[0].endswith("1_a.sql:2: the extension pg_graphql is skipped: this server lacks it")


async def test_an_extension_of_another_version_is_made_in_that_of_the_server(
    project: ProjectDatabase, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "migrations/1_a.sql").write_text(
        'create extension if not exists "citext" with schema "public" version \'0.0.1\';\n'
        "create extension hstore with version '1.8' schema public;\n"
        "comment on extension hstore is 'pairs, version 1';"
    )
    assert await apply(project.owner, folder) == ["1_a.sql"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.endswith(
        "1_a.sql:1: the extension citext is made in the version that this server has"
    )
    noted = "SELECT statements[1] FROM supabase_migrations.schema_migrations"
    assert "0.0.1" in str(ask(project.owner, noted))


async def test_any_other_extension_that_is_missing_is_reported_with_the_package_that_has_it(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "migrations/1_a.sql").write_text("\ncreate extension if not exists timescaledb;")
    with pytest.raises(
        ConfigurationError,
        match=r"1_a.sql:2: Postgres \d+ here lacks the extension timescaledb.*Debian and Ubuntu: "
        r"postgresql-\d+-timescaledb",
    ):
        await apply(project.owner, folder)


async def test_a_statement_that_fails_names_the_extensions_that_were_skipped_for_it(
    project: ProjectDatabase, folder: Path
) -> None:
    (folder / "migrations/1_a.sql").write_text(
        "create extension pg_jsonschema; create extension pg_net; create table t (j json);"
    )
    failing = folder / "migrations/2_b.sql"
    failing.write_text("alter table t add check (json_matches_schema('{}', j));")
    with pytest.raises(
        ConfigurationError, match=r"2_b.sql:1: function json_matches_schema.*does"
    ) as e:
        await apply(project.owner, folder)
    assert "Skipped, since this server lacks them: pg_jsonschema; " in str(e.value)
    failing.write_text("select 1 / 0;")
    with pytest.raises(ConfigurationError, match=r"2_b\.sql:1: division by zero$"):
        await apply(project.owner, folder)
    failing.write_text(
        "\ndo $$ begin if not exists (select from pg_extension where extname = 'pg_net') then"
        " raise 'no pg_net'; end if; end $$;"
    )
    with pytest.raises(ConfigurationError, match=r"no pg_net. Skipped.* them: pg_net; "):
        await apply(project.owner, folder)


async def test_a_server_that_is_older_than_the_project_is_named(
    project: ProjectDatabase, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "migrations/1_a.sql").write_text("select 1;")
    (folder / "config.toml").write_text("[db]\nmajor_version = 14")
    await apply(project.owner, folder)
    assert not caplog.records
    (folder / "config.toml").write_text("[db]\nmajor_version = 1000")
    await apply(project.owner, folder)
    assert "db.major_version is 1000, and this server is Postgres" in caplog.text


async def test_a_job_that_is_not_there_cannot_be_unscheduled(project: ProjectDatabase) -> None:
    with psycopg.connect(project.owner, autocommit=True) as connection:
        connection.execute("SELECT cron.schedule('nightly', '0 3 * * *', 'select 1')")
        connection.execute("SELECT cron.unschedule('nightly')")
        for job in ("'nightly'", "0::bigint"):
            with pytest.raises(psycopg.Error, match="could not find valid entry for job"):
                connection.execute(f"SELECT cron.unschedule({job})".encode())


def test_what_migrations_need_of_the_server_is_found_in_blocks_too(folder: Path) -> None:
    (folder / "migrations/1_a.sql").write_text(
        'create extension citext; create extension pg_net; create extension "ann@recipes";\n'
        "do $$ begin create extension if not exists vector with schema extensions;\n"
        "execute 'create extension hstore;'; end $$; drop extension postgis;"
    )
    brought = frozenset({"citext", "vector", "hstore"})
    assert server_needs(folder, ProjectConfig()) == ServerNeeds(brought)
    (folder / "migrations/2_b.sql").write_text(
        "create collation c (locale = 'und', provider = icu);"
    )
    needs = server_needs(folder, ProjectConfig(postgres_major=17))
    assert needs == ServerNeeds(brought, icu=True, major=17)
