"""Requests to a project: each as its caller, whatever the others do."""

from uuid import uuid4

import pytest
from tests.supabase_projects import settings_of, wait_for_schema

from amphibase import ANONYMOUS, SERVICE, Caller, ConfigurationError, Unauthenticated
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json
from amphibase.supabase.project import SupabaseProject
from amphibase.testing.supabase import LocalSupabase

CURRENT_USER = "SELECT current_user || ' ' || coalesce(auth.uid()::text, '-')"


@pytest.fixture(scope="session", autouse=True)
def _who_am_i(shared_supabase: LocalSupabase) -> None:
    """A function that returns the role and the user of a request."""
    import psycopg

    with psycopg.connect(shared_supabase.db_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION public.who_am_i() RETURNS text LANGUAGE sql STABLE "
            f"AS $${CURRENT_USER}$$".encode()
        )
    wait_for_schema(shared_supabase)


async def who_am_i(client: SupabaseClient, caller: Caller) -> str:
    response = await client.request("rest", "GET", "/rpc/who_am_i", caller)
    return str(read_json(response))


@pytest.mark.parametrize("opaque", [False, True])
async def test_each_caller_has_their_own_identity(supabase: LocalSupabase, opaque: bool) -> None:
    keys = {
        "supabase_anon_key": supabase.publishable_key,
        "supabase_service_key": supabase.secret_key,
    }
    settings = settings_of(supabase, **(keys if opaque else {}))
    client = SupabaseClient(SupabaseProject.of(settings))
    user = Caller("authenticated", uuid4())
    assert await who_am_i(client, SERVICE) == "service_role -"
    assert await who_am_i(client, user) == f"authenticated {user.user_id}"
    assert await who_am_i(client, ANONYMOUS) == "anon -"
    await client.close()


async def test_the_official_client_is_the_callers_and_keeps_nothing(
    client: SupabaseClient,
) -> None:
    user = Caller("authenticated", uuid4())
    official = client.official(user)
    assert (await official.rpc("who_am_i").execute()).data == f"authenticated {user.user_id}"
    await official.auth.sign_up({"email": "ann@example.com", "password": "correct horse battery"})
    other = client.official(SERVICE)
    assert (await other.rpc("who_am_i").execute()).data == "service_role -"
    assert (await client.official(ANONYMOUS).rpc("who_am_i").execute()).data == "anon -"


async def test_a_user_without_a_token_needs_the_secret_of_the_project(
    supabase: LocalSupabase,
) -> None:
    settings = settings_of(supabase, supabase_jwt_secret=None)
    client = SupabaseClient(SupabaseProject.of(settings))
    with pytest.raises(Unauthenticated, match="SUPABASE_JWT_SECRET"):
        await who_am_i(client, Caller("authenticated", uuid4()))
    await client.close()


async def test_a_key_that_the_project_does_not_accept_is_named(supabase: LocalSupabase) -> None:
    settings = settings_of(supabase, supabase_service_key="sb_secret_of_another_project")
    client = SupabaseClient(SupabaseProject.of(settings))
    with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_KEY"):
        await who_am_i(client, SERVICE)
    await client.close()
