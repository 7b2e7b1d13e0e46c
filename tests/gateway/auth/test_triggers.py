"""Triggers of the project on the tables of accounts."""

from collections.abc import Callable, Iterator

import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE, Api
from tests.gateway.auth.conftest import ServeAuth

FIRST_VERSION = {"x-supabase-api-version": ""}
SAVING = {"code": "unexpected_failure", "message": "Database error saving new user"}


async def test_what_the_projects_own_triggers_reject_is_reported_as_its_fault(api: Api) -> None:
    """The profile that a trigger makes may be rejected; the user must not be left without it."""
    api.rows("CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users, n int)")
    api.rows(
        "CREATE FUNCTION public.make_profile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO public.profiles VALUES (NEW.id, (NEW.raw_user_meta_data ->> 'n')::int); "
        "RETURN NEW; END $$ SECURITY DEFINER"
    )
    api.rows(
        "CREATE TRIGGER make_profile AFTER INSERT ON auth.users "
        "FOR EACH ROW EXECUTE FUNCTION public.make_profile()"
    )
    try:
        body = {"email": "ann@example.com", "password": PASSWORD}
        rejected = await api.post("/signup", {**body, "data": {"n": "no number"}})
        assert (rejected.status_code, rejected.json()) == (500, SAVING)
        assert not api.rows("SELECT 1 FROM auth.users")
        user = (await api.sign_up(data={"n": 1}))["user"]
        assert api.rows("SELECT n FROM public.profiles") == [(1,)]
        response = await api.delete(f"/admin/users/{user['id']}", token=SERVICE)
        assert response.status_code == 500
        assert response.json() == {
            "code": "unexpected_failure",
            "message": "Database error deleting user",
        }
        response = await api.delete(
            f"/admin/users/{user['id']}", token=SERVICE, headers=FIRST_VERSION
        )
        assert response.status_code == 500
        assert response.json()["code"] == "23503"
        assert "violates foreign key constraint" in response.json()["message"]
        assert "is still referenced" in response.json()["detail"]
    finally:
        api.rows("DROP TABLE public.profiles")
        api.rows("DROP FUNCTION public.make_profile CASCADE")


RAISING = """
    CREATE FUNCTION public.raising() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
    CREATE TRIGGER raising BEFORE INSERT ON auth.users
    FOR EACH ROW EXECUTE FUNCTION public.raising()
"""
RAISED = {
    "RAISE EXCEPTION 'no such name';": (500, {"code": "P0001", "message": "no such name"}),
    "RAISE SQLSTATE 'PT403' USING MESSAGE = 'not from here', DETAIL = 'more', HINT = 'move';": (
        403,
        {"code": "PT403", "message": "not from here", "hint": "move", "detail": "more"},
    ),
}
"""What clients get that do not ask for the newer version of the API, which hands nothing on."""


@pytest.fixture
def raising(api: Api) -> Iterator[Callable[[str], None]]:
    """Make a trigger for new users that runs a statement."""

    def make(statement: str) -> None:
        api.rows(RAISING.format(statement))

    yield make
    api.rows("DROP FUNCTION public.raising CASCADE")


@pytest.mark.parametrize(("statement", "response"), RAISED.items())
async def test_a_triggers_message_and_status_reach_the_client(
    serve: ServeAuth,
    raising: Callable[[str], None],
    statement: str,
    response: tuple[int, dict[str, str]],
) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    raising(statement)
    body = {"email": "ann@example.com", "password": PASSWORD}
    for rejected in (
        await api.post("/signup", body, headers=FIRST_VERSION),
        await api.post("/admin/users", body, token=SERVICE, headers=FIRST_VERSION),
    ):
        assert (rejected.status_code, rejected.json()) == response
        assert rejected.headers["x-sb-error-code"] == "unexpected_failure"
    newer = await api.post("/signup", body)
    assert (newer.status_code, newer.json()) == (500, SAVING)
    anonymous = await api.post("/signup", {})
    assert anonymous.status_code == 500
    assert anonymous.json()["message"] == "Database error creating anonymous user"
    assert api.rows("SELECT 1 FROM auth.users") == []


async def test_other_errors_of_a_trigger_stay_here_and_have_an_id_in_the_log(
    api: Api, raising: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    raising("PERFORM 1 FROM profiles;")
    body = {"email": "ann@example.com", "password": PASSWORD}
    rejected = (await api.post("/signup", body, headers=FIRST_VERSION)).json()
    assert rejected["msg"] == "Database error saving new user"
    assert any(rejected["error_id"] in line for line in caplog.messages)


async def test_a_trigger_that_lacks_a_right_is_named_in_the_log(
    api: Api, raising: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    raising("INSERT INTO profiles VALUES (NEW.id); RETURN NEW;")
    body = {"email": "ann@example.com", "password": PASSWORD}
    assert (await api.post("/signup", body)).status_code == 500
    (line,) = (line for line in caplog.messages if line.startswith("The function public.raising()"))
    assert "supabase_auth_admin with search_path auth" in line
    assert "SECURITY DEFINER" in line


async def test_a_user_of_the_administration_is_shown_as_triggers_have_changed_it(api: Api) -> None:
    api.rows(
        "CREATE FUNCTION public.grant_plan() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        'UPDATE auth.users SET raw_app_meta_data = raw_app_meta_data || \'{"plan": "free"}\' '
        "WHERE id = NEW.id; RETURN NEW; END $$"
    )
    api.rows(
        "CREATE TRIGGER grant_plan AFTER INSERT ON auth.users "
        "FOR EACH ROW EXECUTE FUNCTION public.grant_plan()"
    )
    try:
        body = {"email": "ann@example.com", "email_confirm": True}
        created = (await api.post("/admin/users", body, token=SERVICE)).json()
        read = (await api.get(f"/admin/users/{created['id']}", token=SERVICE)).json()
        assert created["app_metadata"]["plan"] == "free"
        assert {**created, "confirmed_at": read["confirmed_at"]} == read
    finally:
        api.rows("DROP FUNCTION public.grant_plan CASCADE")
