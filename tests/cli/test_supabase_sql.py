"""`amphibase supabase sql --since` and `check`: a project follows the models of an application."""

import re
import uuid
from pathlib import Path

import psycopg
import pytest
from tests.commands import Completed, run
from tests.supabase_tables import owner_url

from amphibase.testing.supabase import LocalSupabase

APPLICATION = """
from fastapi import FastAPI
from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from amphibase import Amphibase, Base, Owned, PublicRead, Versioned

app = Amphibase().mount(FastAPI())


class Note(Owned, Base):
    __tablename__ = "notes"
    title: Mapped[str]
"""
LATER = (
    APPLICATION.replace("Note(Owned, Base)", "Note(PublicRead, Versioned, Base)")
    + """\
    rate: Mapped[str | None] = mapped_column(CheckConstraint("rate <> '100%'", name="whole"))


class Tag(Owned, Base):
    __tablename__ = "tags"
    __changes__ = True
    name: Mapped[str] = mapped_column(index=True)
"""
)
IS_STORED = "SELECT EXISTS (SELECT FROM stored)"
"""Part of a function of presence, which an earlier version of the script had otherwise."""
BY_HAND = "CREATE TABLE public.by_hand (id int PRIMARY KEY);"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application, before and after its models have changed."""
    (tmp_path / "before.py").write_text(APPLICATION)
    (tmp_path / "after.py").write_text(LATER)
    (tmp_path / "supabase" / "migrations").mkdir(parents=True)
    return tmp_path


def apply(project: LocalSupabase, script: str) -> None:
    with psycopg.connect(project.db_url, autocommit=True) as connection:
        connection.execute(script.encode())


def test_a_project_follows_the_models(folder: Path, local_supabase: LocalSupabase) -> None:
    environment = {
        "BACKEND": "supabase",
        "SUPABASE_URL": local_supabase.url,
        "SUPABASE_ANON_KEY": local_supabase.anon_key,
        "SUPABASE_SERVICE_KEY": local_supabase.service_role_key,
        "SUPABASE_JWT_SECRET": local_supabase.jwt_secret,
        "SUPABASE_DB_URL": owner_url(local_supabase),
    }

    def command(*arguments: str) -> Completed:
        return run(folder, environment, "supabase", *arguments)

    first = folder / "supabase" / "migrations" / "1_first.sql"
    earlier = command("sql", "--app", "before:app").stdout.replace(IS_STORED, "SELECT true")
    first.write_text(earlier + BY_HAND)
    apply(local_supabase, first.read_text())
    behind = command("check", "--app", "after:app")
    assert behind.returncode == 1
    assert "table tags is missing from the database" in behind.stdout
    assert "function amphibase_put_presence is missing from the database, or" in behind.stdout
    following = command("sql", "--app", "after:app", "--since", str(first))
    assert following.returncode == 0, following.stderr
    assert "The table by_hand is in the project alone; it stays" in following.stderr
    assert not re.search("DROP TABLE|%%", following.stdout)
    second = first.with_name("2_second.sql")
    second.write_text(following.stdout)
    apply(local_supabase, second.read_text())
    apply(local_supabase, "DROP TABLE by_hand")
    done = command("check", "--app", "after:app")
    assert done.returncode == 0, done.stdout + done.stderr
    again = command("sql", "--app", "after:app", "--since", str(second))
    assert again.stdout == ""
    assert "Nothing to do" in again.stderr
    over_the_api = {name: value for name, value in environment.items() if name != "SUPABASE_DB_URL"}
    seen = run(folder, over_the_api, "supabase", "check", "--app", "after:app")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    id = uuid.uuid4()
    apply(
        local_supabase,
        "SET session_replication_role = replica; "  # its owner does not matter
        "INSERT INTO notes (id, owner_id, title, created_at, updated_at) "
        f"VALUES ('{id}', '{id}', 'tea', now(), now())",
    )
    explain = ("access", "explain", "Note", str(id), "--as", "anonymous", "--app", "after:app")
    explained = run(folder, environment, *explain)
    assert (explained.returncode, explained.stderr) == (0, "")
    assert "✓ read" in explained.stdout
    assert "✗ delete" in explained.stdout
    unexplained = run(folder, over_the_api, *explain)
    assert unexplained.returncode == 2
    assert "set SUPABASE_DB_URL to the database of the project" in unexplained.stderr
    apply(local_supabase, "DROP FUNCTION amphibase_earlier_tags, amphibase.read_changes")
    lacking = command("check", "--app", "after:app")
    assert "function amphibase_earlier_tags is missing from the database" in lacking.stdout
    assert "function amphibase.read_changes" in lacking.stdout
    seen = run(folder, over_the_api, "supabase", "check", "--app", "after:app")
    assert "function amphibase_earlier_tags is missing" in seen.stdout


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ("nothing.sql", "There is no file nothing.sql"),
        ("before.py", "before.py is no migration"),
    ],
)
def test_a_file_that_is_no_migration_is_named(folder: Path, since: str, message: str) -> None:
    done = run(folder, {}, "supabase", "sql", "--app", "before:app", "--since", since)
    assert done.returncode == 2
    assert message in done.stderr


def test_buckets_that_are_named_are_created_and_have_the_policies(tmp_path: Path) -> None:
    script = run(tmp_path, {}, "supabase", "sql", "--bucket", "avatars", "--bucket", "maps").stdout
    assert "('uploads', 'uploads'), ('avatars', 'avatars'), ('maps', 'maps')" in script
    policies = [part.split(";")[0] for part in script.split("CREATE POLICY ")[1:]]
    about_files = [policy for policy in policies if " ON storage." in policy]
    assert len(about_files) == 5
    assert all("IN ('uploads', 'avatars', 'maps')" in policy for policy in about_files)
