"""New tables are nobody's in the Data API until they are granted."""

from typing import LiteralString

import psycopg
from tests.gateway.conftest import PASSWORD

from amphibase.gateway.grants import grants_sql, tables_without_grants
from amphibase.gateway.project import prepare
from amphibase.postgres import Server

ROLES = ("anon", "authenticated", "service_role")


def privileges(url: str, table: LiteralString) -> set[str]:
    """Create a table, and return which roles may read it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {table} (id int)".encode())
        query = f"SELECT has_table_privilege(%s, '{table}', 'SELECT')".encode()
        return {role for role in ROLES if connection.execute(query, (role,)).fetchone() == (True,)}


async def test_a_new_project_opens_new_tables_only_if_it_is_told_to(postgres: Server) -> None:
    url = postgres.create_database("grants_of_new_tables")
    try:
        await prepare(url, PASSWORD)
        assert privileges(url, "closed") == set()
        await prepare(url, PASSWORD, exposes_new_tables=True)
        assert privileges(url, "opened") == set(ROLES)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("COMMENT ON SCHEMA extensions IS 'Made by Amphibase: project old'")
        await prepare(url, PASSWORD)
        assert privileges(url, "as_before") == set(ROLES)
        await prepare(url, PASSWORD, exposes_new_tables=False)
        assert privileges(url, "closed_again") == set()
    finally:
        postgres.drop_database("grants_of_new_tables")


async def test_tables_that_no_role_may_use_are_found_and_opened(postgres: Server) -> None:
    url = postgres.create_database("tables_without_grants")
    try:
        await prepare(url, PASSWORD)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                'CREATE SCHEMA shop; CREATE TABLE shop."Cakes" (id serial PRIMARY KEY);'
                "CREATE SCHEMA private; CREATE TABLE private.safe (id int);"
                "CREATE TABLE notes (id int); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;"
                "CREATE VIEW titles AS SELECT 1 AS one;"
                "CREATE TABLE parts (id int) PARTITION BY LIST (id);"
                "CREATE TABLE part PARTITION OF parts FOR VALUES IN (1);"
                "CREATE TABLE granted (id int, b int); GRANT UPDATE (b) ON granted TO service_role;"
                # Of an application, and of no concern to its users.
                "CREATE TABLE alembic_version (version_num text);"
                "CREATE TABLE amphibase_changes (id int);"
                "CREATE EXTENSION pg_stat_statements SCHEMA public"
            )
            tables = await tables_without_grants(url, ["public", "shop", "storage", "gone"])
            assert [table.name for table in tables] == [
                "public.notes",
                "public.parts",
                "public.titles",
                'shop."Cakes"',
            ]
            script = grants_sql(tables)
            assert "-- public.parts has no row level security" in script
            assert "-- public.notes" not in script
            connection.execute(script.encode())
            for role, grants in (("anon", (True, False)), ("authenticated", (True, True))):
                query = "SELECT has_table_privilege(%s, 'shop.\"Cakes\"', %s)"
                for privilege, expected in zip(("SELECT", "INSERT"), grants, strict=True):
                    assert connection.execute(query, (role, privilege)).fetchone() == (expected,)
            uses = (
                "SELECT has_sequence_privilege('authenticated', 'shop.\"Cakes_id_seq\"', 'USAGE')"
            )
            assert connection.execute(uses).fetchone() == (True,)
        assert await tables_without_grants(url, ["public", "shop"]) == []
    finally:
        postgres.drop_database("tables_without_grants")
