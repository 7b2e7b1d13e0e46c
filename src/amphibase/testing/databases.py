"""A database of its own for each test, copied from one that has all tables."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from amphibase.errors import ConfigurationError
from amphibase.http.application import Application
from amphibase.models import Base
from amphibase.rate_limits import RateLimits
from amphibase.settings.application import Settings
from amphibase.testing.passwords import cheap_hashes

URL_FIELDS = ("database_url", "accounts_database_url", "files_database_url")


class TestDatabases:
    """Copies the databases of applications.

    A SQLite file is copied; on Postgres a database is created from a template, on the server that
    the settings name. What is in the application's own databases is neither read nor changed.

    Args:
        folder: where templates of SQLite and the files of tests are.
    """

    __test__ = False  # to pytest, the name looks like a test's

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = (f"amphibase_test_{os.getpid()}_{n}" for n in itertools.count())
        self._templates: dict[Any, dict[str, URL]] = {}

    async def template(self, db: Application) -> dict[str, URL]:
        """Return databases with all tables of an application, by the setting that names them."""
        own = {name: url for name in URL_FIELDS if (url := _url(db.settings, name)) is not None}
        tables = frozenset(Base.metadata.tables)
        key = (*own.items(), tables, db.user, db.settings.rls, db.settings.migrations_dir)
        if key not in self._templates:
            created = {name: self._create(url) for name, url in own.items()}
            self._templates[key] = created
            from amphibase.build import open_backend

            settings = _with_databases(db.settings, created, self._folder / next(self._names))
            async with open_backend(settings):
                pass
        return self._templates[key]

    @contextmanager
    def copy(self, db: Application, template: dict[str, URL]) -> Iterator[None]:
        """Let an application use copies of the template's databases until the block ends.

        Meanwhile passwords are hashed at the least cost: what is hashed goes with the copies.
        """
        settings = db.settings
        copies = {name: self._create(url, copied=True) for name, url in template.items()}
        db.use(_with_databases(settings, copies, self._folder / next(self._names)))
        try:
            with cheap_hashes():
                yield
        finally:
            db.use(settings)
            for url in copies.values():
                _drop(url)

    def close(self) -> None:
        """Drop the templates."""
        for urls in self._templates.values():
            for url in urls.values():
                _drop(url)

    def _create(self, url: URL, *, copied: bool = False) -> URL:
        """Create a database where another is: a copy of it, or an empty one."""
        name = next(self._names)
        if url.get_backend_name() == "sqlite":
            path = self._folder / f"{name}.db"
            if copied:
                assert url.database is not None
                shutil.copy(url.database, path)
            return url.set(database=str(path))
        template = f' TEMPLATE "{url.database}"' if copied else ""
        _execute(url, f'CREATE DATABASE "{name}"{template}')
        return url.set(database=name)


def _url(settings: Settings, name: str) -> URL | None:
    """The database that a setting names; None where it names none of its own."""
    if name == "database_url":
        return settings.database if settings.parts_in(settings.database) else None
    part: Any = name.removesuffix("_database_url")
    return settings.database_of(part) if getattr(settings, name).get_secret_value() else None


def _with_databases(settings: Settings, urls: dict[str, URL], folder: Path) -> Settings:
    from pydantic import SecretStr

    rendered = {
        name: SecretStr(url.render_as_string(hide_password=False)) for name, url in urls.items()
    }
    return settings.model_copy(
        update={
            **rendered,
            "data_dir": folder,
            "files_url": SecretStr(""),
            "mail_url": None,
            "environment": "development",
            "rate_limits": RateLimits(),
        }
    )


def _drop(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        for suffix in ("", "-wal", "-shm"):
            Path(f"{url.database}{suffix}").unlink(missing_ok=True)
    else:
        _execute(url, f'DROP DATABASE IF EXISTS "{url.database}" WITH (FORCE)')


def _execute(url: URL, statement: str) -> None:
    import psycopg

    from amphibase.database.url import to_conninfo

    try:
        with psycopg.connect(to_conninfo(url.set(database="postgres")), autocommit=True) as server:
            server.execute(statement.encode())
    except psycopg.Error as error:
        raise ConfigurationError(
            f"A test's database cannot be created or dropped on the server of DATABASE_URL ({error}"
            "): the user needs the right CREATEDB"
        ) from None
