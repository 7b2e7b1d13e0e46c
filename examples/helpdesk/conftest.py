import os
from collections.abc import Iterator

import psycopg
import pytest
from fastapi import FastAPI


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[FastAPI]:
    """The application, on the database of the environment or, with TEST_BACKEND=supabase, on a new
    local Supabase that the starter SQL has prepared."""
    from main import app, db

    if os.environ.get("TEST_BACKEND") != "supabase":
        yield app
        return
    from amphibase import Base, load_settings
    from amphibase.supabase.starter import starter_sql

    project = request.getfixturevalue("local_supabase")
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(starter_sql(Base.metadata).encode())
        connection.execute("ALTER ROLE authenticator SET pgrst.db_aggregates_enabled = 'true'")
        connection.execute("NOTIFY pgrst, 'reload config'")
    before = db.settings
    db.use(
        load_settings(
            backend="supabase",
            supabase_url=project.url,
            supabase_anon_key=project.anon_key,
            supabase_service_key=project.service_role_key,
            supabase_jwt_secret=project.jwt_secret,
            secret_key="a secret of the tests that is long enough for every hash",
            rate_limits="off",
        )
    )
    yield app
    db.use(before)
