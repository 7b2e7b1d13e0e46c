"""The tables of a project: of a new one by a script, of an earlier version's by revisions."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from sqlalchemy import text
from tests.gateway.conftest import PASSWORD, ProjectDatabase

from amphibase.database.engine import Database
from amphibase.gateway.data_dir import DataDir
from amphibase.gateway.project import TABLES, prepare
from amphibase.postgres import Server
from amphibase.schema.migrations.chains import packaged_chain
from amphibase.schema.migrations.compare_tables import table_differences
from amphibase.schema.migrations.execution import downgrade_chain, upgrade_chains
from amphibase.schema.migrations.project_tables import project_tables
from amphibase.schema.migrations.transaction import schema_transaction

NEW = "import asyncio; from amphibase.gateway.project import prepare; asyncio.run(prepare(*args))"
EARLIER = "from amphibase.gateway.upgrade import upgrade; upgrade(*args)"
WITHOUT_LIBRARIES = """
import sys
from amphibase.errors import AmphibaseError
args = sys.argv[1:]
try:
    {call}
except AmphibaseError as error:
    print(type(error).__name__, error.detail)
print(*(name for name in ("alembic", "sqlalchemy") if name in sys.modules))
"""

OF_A_LOCKED_FOLDER = """
import asyncio, os, sys
from pathlib import Path
from typing import Literal
from amphibase.gateway import project
from amphibase.gateway.data_dir import DataDir
from amphibase.gateway.upgrade import upgrade

async def prepare(url, password):
    print(os.getpid(), flush=True)
    await asyncio.sleep(60)

project.prepare = prepare
lock = DataDir(Path(sys.argv[1])).lock()
upgrade("", "")
"""


def run_in_process(call: str, url: str) -> list[str]:
    """Run a call in a process that has no threads; what that prints, by lines."""
    command = [sys.executable, "-c", WITHOUT_LIBRARIES.format(call=call), url, PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_the_script_of_a_new_projects_tables_is_what_the_revisions_come_to() -> None:
    assert TABLES.read_text() == project_tables(), "run `make project-tables`"


@pytest.mark.parametrize("name", ["auth", "storage"])
async def test_a_new_project_has_the_tables_of_the_newest_revision(
    project: ProjectDatabase, name: Literal["auth", "storage"]
) -> None:
    database = Database(project.owner)
    chain = packaged_chain(database, name)
    async with database.read() as connection:
        status = await connection.run_sync(chain.status)
        assert status.current == status.head
        differences = await connection.run_sync(table_differences, chain)
        # Columns of Supabase's that no revision makes come from `upstream.sql`.
        assert {difference.kind for difference in differences} <= {"extra"}
        buckets = await connection.execute(text("SELECT FROM storage.buckets"))
        assert buckets.all() == []
    await database.close()


def test_a_new_project_is_made_without_the_libraries_of_revisions(postgres: Server) -> None:
    url = postgres.create_database("new_project")
    assert run_in_process(NEW, url) == [""]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM auth.users").fetchone() == (0,)
    postgres.drop_database("new_project")


async def test_a_project_of_an_earlier_version_gets_the_tables_that_it_lacks(
    postgres: Server,
) -> None:
    url = postgres.create_database("earlier_project")
    await prepare(url, PASSWORD)
    database = Database(url)
    async with database.write() as connection:
        await connection.execute(text("INSERT INTO storage.buckets (id, name) VALUES ('a', 'a')"))
        await connection.execute(text("COMMENT ON SCHEMA extensions IS 'of an earlier version'"))
        auth = packaged_chain(database, "auth")
        await connection.run_sync(downgrade_chain, auth, "0001")
    await database.close()

    assert run_in_process(EARLIER, url) == [""]
    with psycopg.connect(url) as reader:
        assert reader.execute("SELECT count(*) FROM auth.pending_sign_ups").fetchone() == (0,)
        assert reader.execute("SELECT id FROM storage.buckets").fetchall() == [("a",)]
    postgres.drop_database("earlier_project")


async def test_a_project_of_an_earlier_version_gets_what_it_lacks_of_the_platform(
    postgres: Server,
) -> None:
    url = postgres.create_database("earlier_platform")
    await prepare(url, PASSWORD)
    own = """
        COMMENT ON SCHEMA extensions IS 'of an earlier version';
        DROP FUNCTION pgmq.metrics_all, pgmq.metrics; DROP TYPE pgmq.metrics_result;
        DROP SCHEMA cron, graphql CASCADE;
        DROP FUNCTION net.http_delete; DROP TABLE net._http_response;
        REVOKE USAGE ON SCHEMA net FROM anon;
        CREATE OR REPLACE FUNCTION net.http_get(
            url text, params jsonb DEFAULT '{}', headers jsonb DEFAULT '{}',
            timeout_milliseconds integer DEFAULT 5000
        ) RETURNS bigint LANGUAGE sql AS 'SELECT 7::bigint';
        DROP FUNCTION vault.update_secret;
        CREATE SCHEMA cron; CREATE FUNCTION cron.own() RETURNS int LANGUAGE sql AS 'SELECT 1';
        DROP FUNCTION graphql_public.graphql;
        SELECT pgmq.create('jobs'); SELECT pgmq.send('jobs', '1');
    """
    with psycopg.connect(url) as connection:
        connection.execute(own.encode())
    await asyncio.gather(*(prepare(url, PASSWORD) for _ in range(3)))  # of gateways that race
    with psycopg.connect(url) as connection:

        def value(expression: str) -> object:
            row = connection.execute(f"SELECT {expression}".encode()).fetchone()
            assert row is not None
            return row[0]

        missing = (
            "graphql.resolve", "graphql_public.graphql", "net.http_delete", "vault.update_secret",
            "pgmq.metrics_all",
        )  # fmt: skip
        assert [value(f"to_regproc('{name}') IS NOT NULL") for name in missing] == [True] * 5
        assert value("to_regclass('net._http_response') IS NOT NULL") is True
        assert value("queue_length FROM pgmq.metrics('jobs')") == 1
        assert (
            value("has_function_privilege('anon', 'vault.update_secret'::regproc, 'EXECUTE')")
            is False
        )
        # What the project changed or made itself stays.
        assert value("net.http_get('x')") == 7
        assert value("has_schema_privilege('anon', 'net', 'USAGE')") is False
        assert value(
            "array_agg(proname) FROM pg_proc WHERE pronamespace = 'cron'::regnamespace"
        ) == ["own"]
    postgres.drop_database("earlier_platform")


async def test_a_start_waits_for_an_upgrade_of_the_tables_that_is_under_way(
    postgres: Server,
) -> None:
    url = postgres.create_database("upgraded_meanwhile")
    database = Database(url)
    chains = [packaged_chain(database, name) for name in ("auth", "storage")]
    async with schema_transaction(database) as connection:
        await connection.run_sync(upgrade_chains, chains)
        preparing = asyncio.create_task(prepare(url, PASSWORD))
        waits = text(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory')"
        )
        for _ in range(600):
            if (await connection.execute(waits)).scalar_one() or preparing.done():
                break
            await asyncio.sleep(0.05)
    await preparing
    await database.close()
    with psycopg.connect(url) as reader:
        assert reader.execute("SELECT count(*) FROM auth.users").fetchone() == (0,)
    postgres.drop_database("upgraded_meanwhile")


def test_the_errors_of_an_upgrade_are_those_of_the_start(postgres: Server) -> None:
    error, modules = run_in_process(EARLIER, f"{postgres.url}_that_is_missing")
    assert error.startswith("Unavailable Cannot connect to the database:")
    assert modules == ""


def test_a_gateway_that_is_killed_during_an_upgrade_leaves_its_folder_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OF_A_LOCKED_FOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        upgrading = int(gateway.stdout.readline())
        gateway.kill()
        try:
            assert DataDir(tmp_path).wait_until_free(50)
        finally:
            os.kill(upgrading, signal.SIGKILL)
