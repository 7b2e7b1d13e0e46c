"""A client of the Supabase project of the tests."""

from collections.abc import AsyncIterator

import pytest
from tests.backends import SECRET, Records
from tests.conftest import open_shared_records
from tests.supabase_projects import settings_of

from amphibase import load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.sql.backend import SqlBackend
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.testing.supabase import LocalSupabase


@pytest.fixture
async def client(supabase: LocalSupabase) -> AsyncIterator[SupabaseClient]:
    """A client of the project."""
    opened = SupabaseClient(SupabaseProject.of(settings_of(supabase)))
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def shared_records(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Records]:
    """Records in a project of their own, for all tests."""
    async with open_shared_records("supabase", request, tmp_path_factory.mktemp("data")) as opened:
        yield opened


@pytest.fixture(scope="session")
async def sql(shared_records: Records) -> AsyncIterator[SqlBackend]:
    """The SQL backend on the database of the same project, as the owner of its tables."""
    settings = load_settings(database_url=shared_records.owner_url, secret_key=SECRET)
    opened = SqlBackend(settings, load_keys(settings))
    yield opened
    await opened.close()
