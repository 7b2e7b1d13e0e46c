"""A start looks at the tables of a database; only where something is to do, Alembic does it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Table, Text, Uuid, create_engine, text
from tests.schema.application import Application

from amphibase.errors import ConfigurationError
from amphibase.schema.migrations.locations import ChainLocation
from amphibase.schema.start import prepare

REPORT_ALEMBIC = """
import asyncio, sys
from fastapi import FastAPI
from amphibase import Amphibase, load_settings

async def start(**settings):
    app = Amphibase(load_settings(**settings)).mount(FastAPI())
    async with app.router.lifespan_context(app):
        print("alembic" in sys.modules)

asyncio.run(start())
asyncio.run(start(database_url="sqlite:///empty.db"))
"""


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Accounts and files are in the same database: all chains of revisions run."""
    return {}


def starts_with_alembic(url: str) -> list[str]:
    """Start an application on the database, and then on an empty one, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT_ALEMBIC],
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


async def test_in_production_a_database_that_is_behind_is_rejected(
    application: Application,
) -> None:
    settings = application.settings.model_copy(update={"environment": "production"})
    with pytest.raises(ConfigurationError, match="amphibase db upgrade"):
        await prepare(application.database, settings, application.models)
    await application.upgrade()
    await prepare(application.database, settings, application.models)
    application.add_notes()
    with pytest.raises(ConfigurationError, match=r"lacks the tables of models \(\w*notes\)"):
        await prepare(application.database, settings, application.models)
    await prepare(application.database, application.settings, application.models)
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


async def test_in_development_a_start_warns_of_the_columns_that_a_changed_model_has(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    notes = application.add_notes()
    await prepare(application.database, application.settings, application.models)
    async with application.database.write() as connection:
        # The type of a column that no model has is not known to SQLAlchemy; nor are names in
        # capitals others on SQLite.
        await connection.execute(text("CREATE TABLE points (id integer PRIMARY KEY, at point)"))
        await connection.execute(text("CREATE VIEW titles AS SELECT id AS ID FROM notes"))
    Table("points", application.models, Column("id", Integer(), primary_key=True))
    titles = Table("titles", application.models, Column("id", Uuid()))
    await prepare(application.database, application.settings, application.models)
    assert caplog.messages == []
    notes.append_column(Column("Stars", Integer()))
    titles.append_column(Column("author", Text()))
    await prepare(application.database, application.settings, application.models)
    (message,) = caplog.messages
    assert "notes.Stars, titles.author. `amphibase db check`" in message
    assert ("delete the file" in message) == (application.database.dialect == "sqlite")


async def test_a_start_in_production_does_not_warn_of_columns(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    await application.upgrade()
    users = application.models.tables["users"]
    users.append_column(Column("stars", Integer()))
    production = application.settings.model_copy(update={"environment": "production"})
    await prepare(application.database, production, application.models)
    assert caplog.messages == []
    await prepare(application.database, application.settings, application.models)
    assert ["users.stars" in message for message in caplog.messages] == [True]


async def test_a_server_on_a_database_that_is_current_does_not_hold_alembic(
    application: Application,
) -> None:
    await prepare(application.database, application.settings, application.models)
    url = application.settings.database_url.get_secret_value()
    assert starts_with_alembic(url) == ["False", "True"]


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
