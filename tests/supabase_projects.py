"""Supabase projects for the tests, and the settings of an application that uses one."""

from typing import Any

import psycopg
from tests.backends import SECRET

from amphibase import Settings, load_settings
from amphibase.supabase.starter import files_sql
from amphibase.testing.supabase import LocalSupabase

RESET = """
    TRUNCATE auth.users CASCADE;
    DELETE FROM storage.objects;
    DELETE FROM storage.buckets WHERE id <> 'uploads';
    INSERT INTO storage.buckets (id, name) VALUES ('uploads', 'uploads') ON CONFLICT DO NOTHING;
"""


def reset(project: LocalSupabase) -> None:
    """Delete the users, the files and the buckets of tests."""
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute("SET storage.allow_delete_query = true")
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
            "supabase_jwt_secret": project.jwt_secret,
            "secret_key": SECRET,
            "rate_limits": "off",
            **overrides,
        }
    )
