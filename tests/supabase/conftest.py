"""A Supabase project for the tests: the local one, in a process of its own, over a socket."""

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.supabase.projects import reset, settings_of

from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.testing.supabase import LocalSupabase, Projects


@pytest.fixture(scope="session")
def shared_supabase(local_supabase_projects: Projects) -> Iterator[LocalSupabase]:
    """A project for all tests."""
    with local_supabase_projects.open() as project:
        yield project


@pytest.fixture
def supabase(shared_supabase: LocalSupabase) -> LocalSupabase:
    """The project, without users, files and buckets."""
    reset(shared_supabase)
    return shared_supabase


@pytest.fixture
async def client(supabase: LocalSupabase) -> AsyncIterator[SupabaseClient]:
    """A client of the project."""
    opened = SupabaseClient(SupabaseProject.of(settings_of(supabase)))
    yield opened
    await opened.close()
