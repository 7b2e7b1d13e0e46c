"""The tables of the tests' models in a Supabase project, with what a project needs beside them."""

import psycopg
from sqlalchemy import create_engine, make_url

from amphibase import Base
from amphibase.schema import policies, triggers
from amphibase.testing.supabase import LocalSupabase

GRANTS = """
GRANT ALL ON ALL TABLES IN SCHEMA public TO service_role;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO service_role;
NOTIFY pgrst, 'reload schema';
"""


def create_tables(project: LocalSupabase) -> None:
    """Create the tables of every model, with policies, triggers and grants."""
    url = make_url(project.db_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        for script in (
            policies.script(Base.metadata),
            triggers.script(Base.metadata),
            GRANTS,
        ):
            connection.execute(script.encode())


def owner_url(project: LocalSupabase) -> str:
    """Return the URL of the project's database for SQLAlchemy."""
    url = make_url(project.db_url).set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)
