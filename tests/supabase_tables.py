"""The tables of the tests' models in a Supabase project, with what a project needs beside them."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import create_engine, inspect, make_url

from amphibase import Base
from amphibase.schema.ddl import quoted
from amphibase.supabase.starter import starter_sql
from amphibase.testing.supabase import LocalSupabase


def create_tables(project: LocalSupabase) -> None:
    """Prepare the project for every model, as a user prepares theirs."""
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(starter_sql(Base.metadata).encode())
        connection.execute("ALTER ROLE authenticator SET pgrst.db_aggregates_enabled = 'true'")
        connection.execute("NOTIFY pgrst, 'reload config'")


@contextmanager
def created_tables(project: LocalSupabase) -> Iterator[None]:
    """Prepare the project for every model; drop the tables after the block."""
    with dropped_tables(project):
        create_tables(project)
        yield


@contextmanager
def dropped_tables(project: LocalSupabase) -> Iterator[None]:
    """Drop the tables of every model after the block, which creates them.

    Raises:
        ValueError: the project has one of them already, which is somebody's.
    """
    engine = create_engine(owner_url(project))
    names = {table.name for table in Base.metadata.sorted_tables if table.schema is None}
    if present := names & set(inspect(engine).get_table_names("public")):
        raise ValueError(f"the project has tables of these names: {', '.join(sorted(present))}")
    try:
        yield
    finally:
        listed = ", ".join(map(quoted, sorted(names))).replace("%", "%%")
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {listed} CASCADE")
        engine.dispose()


def owner_url(project: LocalSupabase) -> str:
    """Return the URL of the project's database for SQLAlchemy."""
    url = make_url(project.db_url).set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)
