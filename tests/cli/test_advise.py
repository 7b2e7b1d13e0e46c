"""`amphibase advise`: evidence from a real Postgres, as a table, JSON and HTML."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.commands import Completed, run
from tests.supabase_tables import owner_url

from amphibase.testing.supabase import LocalSupabase


def advise(folder: Path, url: str, *options: str) -> Completed:
    return run(folder, {}, "advise", "--database-url", url, *options)


def evidence(folder: Path, url: str) -> tuple[str | None, dict[str, Any]]:
    done = advise(folder, url, "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    return report["recommended"], {each["criterion"]: each for each in report["evidence"]}


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_an_empty_database_decides_nothing(tmp_path: Path, postgres_url: str) -> None:
    side, found = evidence(tmp_path, postgres_url)
    assert side is None
    assert all(each["speaks_for"] is None for each in found.values())
    assert "The evidence is not clear" in advise(tmp_path, postgres_url).stdout


@pytest.mark.parametrize(
    ("statements", "criterion", "expected", "side"),
    [
        (
            [
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
                "CREATE TABLE users (id serial PRIMARY KEY)",
                "CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f()",
                # That of Realtime is none of the application's.
                "CREATE SCHEMA realtime",
                "CREATE FUNCTION realtime.write_to_outbox() RETURNS trigger LANGUAGE plpgsql "
                "AS 'BEGIN RETURN NULL; END'",
                'CREATE TRIGGER "000_realtime_outbox" AFTER INSERT ON users '
                "FOR EACH ROW EXECUTE FUNCTION realtime.write_to_outbox()",
            ],
            "triggers",
            "1 triggers",
            None,
        ),
        (["CREATE TABLE users (id serial PRIMARY KEY)"], "integer keys", "users", None),
        (
            [
                "CREATE FOREIGN DATA WRAPPER w",
                "CREATE SERVER other FOREIGN DATA WRAPPER w",
            ],
            "several databases",
            "1 foreign servers",
            "own database",
        ),
        (
            ["CREATE FUNCTION f(text) RETURNS text LANGUAGE internal AS 'upper'"],
            "procedures",
            "1, some in internal, which Supabase has not",
            "own database",
        ),
        (
            [
                "CREATE SCHEMA auth",
                "CREATE TABLE auth.users (encrypted_password text)",
                "INSERT INTO auth.users VALUES ('$2b$10$x'), ('$pbkdf2-sha256$x'), (NULL)",
            ],
            "password hashes",
            "1 bcrypt, 1 none, 1 pbkdf2",
            "own database",
        ),
    ],
    ids=["triggers", "integer keys", "foreign servers", "untrusted", "hashes"],
)
def test_what_is_there_is_counted(
    tmp_path: Path,
    postgres_url: str,
    statements: list[str],
    criterion: str,
    expected: str,
    side: str | None,
) -> None:
    execute(postgres_url, *statements)
    recommended, found = evidence(tmp_path, postgres_url)
    assert (found[criterion]["found"], found[criterion]["speaks_for"]) == (expected, side)
    assert recommended == side


def test_policies_for_browsers_speak_for_supabase(
    tmp_path: Path, local_supabase: LocalSupabase
) -> None:
    url = local_supabase.db_url
    execute(url, "CREATE TABLE notes (id int)", "CREATE POLICY p ON notes TO anon USING (true)")
    side, found = evidence(tmp_path, url)
    assert found["policies for browsers"]["speaks_for"] == "Supabase"
    assert side == "Supabase"
    page = advise(tmp_path, url, "-o", "html").stdout
    assert "<td>1 policies of anon and authenticated</td><td>Supabase</td>" in page
    assert "Recommended: Supabase" in page
    execute(url, "CREATE FOREIGN DATA WRAPPER w", "CREATE SERVER other FOREIGN DATA WRAPPER w")
    both, _ = evidence(tmp_path, url)
    assert both is None


def test_a_project_shows_its_api_and_with_its_database_more(
    tmp_path: Path, local_supabase: LocalSupabase
) -> None:
    execute(
        local_supabase.db_url,
        "CREATE TABLE users (id serial PRIMARY KEY)",
        "GRANT ALL ON users TO service_role",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INSERT INTO storage.buckets (id, name, public) VALUES ('a', 'a', true), ('b', 'b', false)",
        "NOTIFY pgrst, 'reload schema'",
    )
    environment = {
        "SUPABASE_ANON_KEY": local_supabase.anon_key,
        "SUPABASE_SERVICE_KEY": local_supabase.service_role_key,
    }

    def found(**more: str) -> dict[str, str]:
        options = ("advise", "--supabase-url", local_supabase.url, "-o", "json")
        done = run(tmp_path, environment | more, *options)
        assert done.returncode == 0, done.stderr
        evidence = json.loads(done.stdout)["evidence"]
        return {each["criterion"]: each["found"] for each in evidence}

    over_api = found()
    assert over_api["integer keys"] == "users"
    assert over_api["files"] == "2 buckets, 1 of them public"
    assert over_api["accounts"] == "0 users"
    assert over_api["sign-in by providers"] == "none"
    assert "triggers" not in over_api
    assert any("SUPABASE_DB_URL" in text for text in over_api.values())
    with_database = found(SUPABASE_DB_URL=owner_url(local_supabase))
    assert with_database["triggers"].endswith("triggers")
    assert not any("SUPABASE_DB_URL" in text for text in with_database.values())


def test_a_project_without_its_keys_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, {}, "advise", "--supabase-url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.startswith("error SUPABASE_ANON_KEY: ")
    assert done.stderr.count("\n") == 1


def test_sqlite_has_nothing_to_show(tmp_path: Path) -> None:
    done = advise(tmp_path, "sqlite:///app.db")
    assert done.returncode == 2
    assert "Only a Postgres" in done.stderr


def test_a_wrong_url_is_one_line_without_its_password(tmp_path: Path) -> None:
    done = advise(tmp_path, "postgres//ann:secret@host/db")
    assert done.returncode == 2
    assert done.stderr.startswith("error DATABASE_URL: is not a database URL")
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("option", "url", "shown"),
    [
        (
            "--database-url",
            "postgresql://ann:secret@127.0.0.1:1/db",
            "postgresql://ann@127.0.0.1:1/db",
        ),
        ("--supabase-url", "http://127.0.0.1:9", "http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_reached_is_named(tmp_path: Path, option: str, url: str, shown: str) -> None:
    keys = {"SUPABASE_ANON_KEY": "sb_publishable_1", "SUPABASE_SERVICE_KEY": "sb_secret_1"}
    done = run(tmp_path, keys, "advise", option, url)
    assert done.returncode == 2
    assert f"cannot be reached just now ({shown}): " in done.stderr
    assert "secret" not in done.stderr
