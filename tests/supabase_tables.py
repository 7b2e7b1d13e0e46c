"""The tables of the tests' models in a Supabase project, with what a project needs beside them."""

import psycopg
from sqlalchemy import make_url

from amphibase import Base
from amphibase.supabase.starter import starter_sql
from amphibase.testing.supabase import LocalSupabase


def create_tables(project: LocalSupabase) -> None:
    """Prepare the project for every model, as a user prepares theirs."""
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(starter_sql(Base.metadata).encode())


def owner_url(project: LocalSupabase) -> str:
    """Return the URL of the project's database for SQLAlchemy."""
    url = make_url(project.db_url).set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)
