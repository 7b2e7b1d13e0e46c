"""Where the data is, as errors of commands say it."""

from typing import Any

import pytest

from amphibase.settings.application import load_settings
from amphibase.settings.locations import locations

PROJECT = {
    "supabase_url": "https://abc.supabase.co",
    "supabase_anon_key": "sb_publishable_1",
    "supabase_service_key": "sb_secret_1",
}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"data_dir": "d"}, "DATABASE_URL is sqlite:///d/amphibase.db"),
        (
            {"database_url": "postgresql://ann:secret@db/app?sslpassword=secret"},
            "DATABASE_URL is postgresql://ann@db/app",
        ),
        (
            {"database_url": "sqlite:///a.db", "files_database_url": "sqlite:///b.db"},
            "DATABASE_URL is sqlite:///a.db, FILES_DATABASE_URL is sqlite:///b.db",
        ),
        (
            {"database_url": "sqlite:///a.db", "files_url": "s3://shop/files?secret=secret"},
            "DATABASE_URL is sqlite:///a.db, FILES_URL is s3://shop/files",
        ),
        (
            {
                "database_url": "sqlite:///a.db",
                "messages_url": "redis://ann:secret@cache:6380/1",
                "rate_limit_url": "rediss://:secret@cache/0",
            },
            "DATABASE_URL is sqlite:///a.db, MESSAGES_URL is redis://cache:6380/1, "
            "RATE_LIMIT_URL is rediss://cache/0",
        ),
        ({"backend": "supabase", **PROJECT}, "SUPABASE_URL is https://abc.supabase.co"),
        (
            {"backend": "supabase", **PROJECT, "supabase_db_url": "postgresql://ann:secret@db/app"},
            "SUPABASE_URL is https://abc.supabase.co, SUPABASE_DB_URL is postgresql://ann@db/app",
        ),
        (
            {"accounts": "supabase", **PROJECT, "database_url": "sqlite:///a.db"},
            "DATABASE_URL is sqlite:///a.db, SUPABASE_URL is https://abc.supabase.co",
        ),
    ],
)
def test_each_setting_that_is_used_is_named_without_its_secrets(
    values: dict[str, Any], expected: str
) -> None:
    assert locations(load_settings(**values)) == expected
