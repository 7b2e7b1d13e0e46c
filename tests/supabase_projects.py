"""Supabase projects for the tests, and the settings of an application that uses one.

`TEST_SUPABASE_URL`, `TEST_SUPABASE_ANON_KEY` and `TEST_SUPABASE_SERVICE_KEY` name a project that is
hosted, or that Supabase's CLI has started, instead of the local one. With
`TEST_SUPABASE_JWT_SECRET` and `TEST_SUPABASE_DB_URL` the tests that need them run too. Of what is
in the project, only what the tests made is removed.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest
from tests.backends import SECRET

from amphibase import Settings, load_settings
from amphibase.supabase.starter import files_sql
from amphibase.testing.supabase import LocalSupabase, Projects

DOMAIN = "@example.com"
"""Of all addresses of the tests; nobody else has one (RFC 2606, section 3)."""

SCHEMA_SECONDS = 60.0

RUN_BEGAN = datetime.now(UTC) - timedelta(minutes=1)  # the clocks may differ

RESET = """
    SET storage.allow_delete_query = true;
    DO $$ DECLARE
        emptied regclass;
    BEGIN
        SET LOCAL session_replication_role = replica;
        FOR emptied IN
            WITH RECURSIVE related (id) AS (
                VALUES (to_regclass('auth.users')), (to_regclass('public.users'))
                UNION
                SELECT conrelid FROM pg_constraint JOIN related ON confrelid = id
            )
            SELECT id FROM related WHERE id IS NOT NULL
        LOOP
            EXECUTE format('DELETE FROM %s', emptied);
        END LOOP;
    END $$;
    DELETE FROM storage.objects;
    DELETE FROM storage.buckets WHERE id <> 'uploads';
    INSERT INTO storage.buckets (id, name) VALUES ('uploads', 'uploads') ON CONFLICT DO NOTHING;
"""
"""Of users and all that refers to them, without triggers, as by TRUNCATE … CASCADE; which takes 50
ms, since it makes the files of each table anew."""


def named_project() -> LocalSupabase | None:
    """Return the project that the environment names, if any."""

    def value(name: str) -> str:
        return os.environ.get(f"TEST_SUPABASE_{name}", "")

    if not value("URL"):
        return None
    return LocalSupabase(
        url=value("URL").rstrip("/"),
        anon_key=value("ANON_KEY"),
        service_role_key=value("SERVICE_KEY"),
        publishable_key="",
        secret_key="",
        jwt_secret=value("JWT_SECRET"),
        db_url=value("DB_URL"),
        inbox_url="",
    )


@contextmanager
def open_project(request: pytest.FixtureRequest) -> Iterator[LocalSupabase]:
    """Open the project that is named, else a new local one."""
    named = named_project()
    if named is not None:
        yield named
        return
    projects: Projects = request.getfixturevalue("local_supabase_projects")
    with projects.open() as project:
        yield project


def reset(project: LocalSupabase) -> None:
    """Delete the users, files and buckets of the tests."""
    if named_project() is not None:
        _delete_files(project)
        _delete_users(project)
        return
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(RESET)


def prepare_files(project: LocalSupabase) -> None:
    """Give a project the policies and the function that files need."""
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(files_sql().encode())


def settings_of(project: LocalSupabase, **overrides: Any) -> Settings:
    """Return the settings of an application whose data is in the project."""
    return load_settings(
        **{
            "backend": "supabase",
            "supabase_url": project.url,
            "supabase_anon_key": project.anon_key,
            "supabase_service_key": project.service_role_key,
            "supabase_jwt_secret": project.jwt_secret or None,
            "secret_key": SECRET,
            "rate_limits": "off",
            **overrides,
        }
    )


def _service(project: LocalSupabase) -> httpx.Client:
    key = project.service_role_key
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=project.url, headers=headers, timeout=30)


def _is_of_run(item: Mapping[str, Any]) -> bool:
    return datetime.fromisoformat(item["created_at"]) > RUN_BEGAN


def _delete_users(project: LocalSupabase) -> None:
    """Delete the users of this run, and nobody else."""
    with _service(project) as http:
        newest = http.get("/auth/v1/admin/users", params={"per_page": 1000}).raise_for_status()
        for user in newest.json()["users"]:
            if (user.get("email") or "").endswith(DOMAIN) and _is_of_run(user):
                http.delete(f"/auth/v1/admin/users/{user['id']}").raise_for_status()


def _delete_files(project: LocalSupabase) -> None:
    """Delete the files of this run, and its buckets."""
    with _service(project) as http:
        for bucket in http.get("/storage/v1/bucket").raise_for_status().json():
            id = quote(bucket["id"], safe="")
            body = {"prefix": "", "limit": 1000, "with_delimiter": False}
            listed = http.post(f"/storage/v1/object/list-v2/{id}", json=body).raise_for_status()
            names = [each["name"] for each in listed.json()["objects"] if _is_of_run(each)]
            if names:
                path, prefixes = f"/storage/v1/object/{id}", {"prefixes": names}
                http.request("DELETE", path, json=prefixes).raise_for_status()
            if bucket["id"] != "uploads" and _is_of_run(bucket):  # which every project needs
                http.delete(f"/storage/v1/bucket/{id}").raise_for_status()


def wait_for_schema(project: LocalSupabase) -> None:
    """Wait until the Data API knows what was created and dropped before, which it reads by itself.

    It is asked for a table of a new name: one of a known name may be what another test has dropped.
    """
    marker = f"marker_{uuid4().hex}"
    deadline = time.monotonic() + SCHEMA_SECONDS
    with (
        psycopg.connect(project.db_url, autocommit=True) as connection,
        httpx.Client(headers={"apikey": project.secret_key}, timeout=SCHEMA_SECONDS) as client,
    ):
        connection.execute(f"CREATE TABLE {marker} ()")
        connection.execute("NOTIFY pgrst, 'reload schema'")
        while (response := client.get(f"{project.url}/rest/v1/{marker}")).status_code == 404:
            assert time.monotonic() < deadline, f"the schema is not read: {response.text}"
            time.sleep(0.05)
        connection.execute(f"DROP TABLE {marker}")
