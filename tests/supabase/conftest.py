"""A client of the Supabase project of the tests."""

from collections.abc import AsyncIterator

import pytest
from tests.supabase_projects import settings_of

from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.testing.supabase import LocalSupabase


@pytest.fixture
async def client(supabase: LocalSupabase) -> AsyncIterator[SupabaseClient]:
    """A client of the project."""
    opened = SupabaseClient(SupabaseProject.of(settings_of(supabase)))
    yield opened
    await opened.close()
