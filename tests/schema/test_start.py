"""A start looks at the tables of a database; only where something is to do, Alembic does it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.schema.application import Application

from amphibase.errors import ConfigurationError
from amphibase.schema.migrations.locations import ChainLocation
from amphibase.schema.start import prepare

REPORT_ALEMBIC = """
import asyncio, sys
from fastapi import FastAPI
from amphibase import Amphibase

app = Amphibase().mount(FastAPI())

async def start():
    async with app.router.lifespan_context(app):
        print("alembic" in sys.modules)

asyncio.run(start())
"""


def starts_with_alembic(**environment: str) -> bool:
    """Start an application in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT_ALEMBIC],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() == "True"


async def test_in_production_a_database_that_is_behind_is_rejected(
    application: Application,
) -> None:
    settings = application.settings.model_copy(update={"environment": "production"})
    with pytest.raises(ConfigurationError, match="amphibase db upgrade"):
        await prepare(application.database, settings, application.models)
    await application.upgrade()
    await prepare(application.database, settings, application.models)
    application.write("later", "0002", "pass")
    with pytest.raises(ConfigurationError, match="amphibase db upgrade"):
        await prepare(application.database, settings, application.models)


async def test_in_development_a_new_table_is_created_at_the_next_start(
    application: Application,
) -> None:
    await prepare(application.database, application.settings, application.models)
    notes = application.add_notes()
    await prepare(application.database, application.settings, application.models)
    assert await application.count(notes) == 0


def test_a_server_on_a_database_that_is_current_does_not_hold_alembic(database_url: str) -> None:
    assert starts_with_alembic(DATABASE_URL=database_url)
    assert not starts_with_alembic(DATABASE_URL=database_url)


@pytest.mark.parametrize(
    ("files", "current"),
    [
        ({"a": ("a", None), "b": ("b", "a")}, True),
        ({"a": ("a", None), "b": ("b", "a"), "c": ("c", "b")}, False),
        ({"a": ("a", None), "b": ("b", "a"), "c": ("c", "a")}, False),
        ({"a": ("a", None), "b": ("b", ("a", "x"))}, False),
        ({}, False),
    ],
    ids=["at the head", "behind", "two heads", "a merge", "no revisions"],
)
def test_a_chain_is_current_where_its_only_head_is_recorded(
    tmp_path: Path, files: dict[str, tuple[str, object]], current: bool
) -> None:
    for name, (revision, down_revision) in files.items():
        content = f"revision: str = {revision!r}\ndown_revision = {down_revision!r}\n"
        (tmp_path / f"{name}.py").write_text(content)
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        chain = ChainLocation("application", (tmp_path,), "versions", None)
        assert not chain.is_current(connection)
        connection.execute(text("CREATE TABLE versions (version_num TEXT)"))
        connection.execute(text("INSERT INTO versions VALUES ('b')"))
        assert chain.is_current(connection) is current
    engine.dispose()
