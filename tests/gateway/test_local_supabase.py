"""`local_supabase`: every test has a project of its own."""

import shutil

import httpx
import psycopg
import pytest

from amphibase.testing.supabase import LocalSupabase, Projects, serve_projects


def sign_up(project: LocalSupabase, email: str) -> httpx.Response:
    return httpx.post(
        f"{project.url}/auth/v1/signup",
        headers={"apikey": project.publishable_key},
        json={"email": email, "password": "correct horse battery"},
    )


@pytest.mark.parametrize("turn", [1, 2])
def test_a_project_begins_with_nothing_and_takes_all(
    local_supabase: LocalSupabase, turn: int
) -> None:
    with psycopg.connect(local_supabase.db_url) as connection:
        users, buckets = (
            connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            for table in ("auth.users", "storage.buckets")
        )
        assert (users, buckets) == ((0,), (0,))
        connection.execute("CREATE TABLE notes (title text); GRANT INSERT ON notes TO anon")
        connection.execute("INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')")
    assert sign_up(local_supabase, "ann@example.com").status_code == 200
    notes = f"{local_supabase.url}/rest/v1/notes"
    added = httpx.post(notes, json={"title": "x"}, headers={"apikey": local_supabase.anon_key})
    assert added.status_code == 201, added.text


def test_each_keys_are_its_own(
    local_supabase: LocalSupabase, local_supabase_projects: Projects
) -> None:
    with local_supabase_projects.open() as other:
        assert other.url != local_supabase.url
        for key in (other.anon_key, other.secret_key):
            response = httpx.get(f"{local_supabase.url}/rest/v1/", headers={"apikey": key})
            assert response.status_code == 401


def test_it_is_gone_after_its_test(local_supabase_projects: Projects) -> None:
    with local_supabase_projects.open() as project:
        assert httpx.get(f"{project.url}/health").status_code == 200
    with pytest.raises(psycopg.OperationalError):
        _connect_until_refused(project.db_url)


def test_a_process_that_has_ended_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with serve_projects() as projects:
        for _ in range(20):
            with (
                pytest.raises(RuntimeError, match="The local Supabase of the tests ended"),
                projects.open(),
            ):
                pass


def _connect_until_refused(url: str) -> None:
    while True:
        psycopg.connect(url).close()
