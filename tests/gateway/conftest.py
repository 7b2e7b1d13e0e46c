"""A Supabase project's database for the tests of the gateway, a fresh one for every test."""

import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from amphibase.gateway.project import copy, prepare, url_of
from amphibase.postgres import Server

PASSWORD = "the authenticator's password in the tests"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class ProjectDatabase:
    """A database with a project in it, and nothing else.

    Attributes:
        owner: its URL as the superuser, whom auth, storage and migrations work as.
        authenticator: its URL as `authenticator`, whom the Data API works as.
    """

    owner: str
    authenticator: str


@pytest.fixture(scope="session")
async def project_template(postgres: Server) -> str:
    """The URL of a database with a project in it, for copies; nobody may be connected to it."""
    url = postgres.create_database(f"project_{os.getpid()}")
    await prepare(url, PASSWORD)
    return url


@pytest.fixture
async def project(postgres: Server, project_template: str) -> AsyncIterator[ProjectDatabase]:
    """A project's database of the test's own."""
    name = f"project_{os.getpid()}_{next(_numbers)}"
    url = await copy(project_template, name)
    yield ProjectDatabase(url, url_of(url, "authenticator", PASSWORD))
    postgres.drop_database(name)
