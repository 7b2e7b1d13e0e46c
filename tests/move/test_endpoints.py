"""The ends of a move: their addresses hold no secret, and secrets go to their own address alone."""

from pathlib import Path

import pytest

from amphibase.errors import ConfigurationError
from amphibase.move.endpoints import Role, SqlEndpoint, SupabaseEndpoint, parse_endpoint

PROJECT = "https://abcdefgh.supabase.co"
APP = "postgresql://app@db.example.com/app"
WITH_PASSWORD = "postgresql+asyncpg://app:s3cret@db.example.com/app"


def sql(text: str, role: Role = Role.SOURCE, files: str | None = None) -> SqlEndpoint:
    endpoint = parse_endpoint(text, role, files=files)
    assert isinstance(endpoint, SqlEndpoint)
    return endpoint


def project(text: str, role: Role = Role.TARGET, database: str | None = None) -> SupabaseEndpoint:
    endpoint = parse_endpoint(text, role, database=database)
    assert isinstance(endpoint, SupabaseEndpoint)
    return endpoint


@pytest.mark.parametrize("variable", ["SOURCE_DATABASE_URL", "DATABASE_URL"])
def test_the_password_of_an_address_comes_from_the_environment(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, WITH_PASSWORD)
    endpoint = sql(f"sql:{APP}")
    assert endpoint.database.password == "s3cret"
    assert endpoint.address == f"sql:{APP}"
    assert "s3cret" not in repr(endpoint)


def test_an_address_loses_the_secrets_behind_its_question_mark() -> None:
    endpoint = sql(
        "sql:postgresql://app:a1b2c3@db/app?password=d4e5f6&sslpassword=g7h8&sslmode=allow"
    )
    assert endpoint.address == "sql:postgresql://app@db/app?sslmode=allow"
    assert not any(secret in repr(endpoint) for secret in ("a1b2c3", "d4e5f6", "g7h8"))


def test_the_password_of_another_database_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", WITH_PASSWORD)
    assert sql("sql:postgresql://app@other.example.com/app").database.password is None


def test_a_variable_of_the_role_must_be_of_the_plans_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TARGET_DATABASE_URL", WITH_PASSWORD)
    with pytest.raises(ConfigurationError, match="TARGET_DATABASE_URL is of") as raised:
        sql("sql:postgresql://app@other.example.com/app", Role.TARGET)
    assert "s3cret" not in raised.value.detail


def test_sql_alone_is_the_applications_own_database(tmp_path: Path) -> None:
    endpoint = sql("sql")
    assert endpoint.address == f"sql:sqlite:///{tmp_path}/data/amphibase.db"
    assert endpoint.files == f"file://{tmp_path}/data/files"


def test_the_options_of_a_store_of_files_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOURCE_FILES_URL", "s3://bucket/folder?secret_access_key=s3cret")
    assert sql("sql", files="s3://bucket/folder").files.endswith("s3cret")
    assert sql("sql", files="s3://other/folder").files == "s3://other/folder"


def test_a_project_is_opened_with_the_key_of_its_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", PROJECT)
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "general")
    monkeypatch.setenv("TARGET_SUPABASE_SERVICE_KEY", "own")
    assert project("supabase").service_key.get_secret_value() == "own"
    assert project("supabase", Role.SOURCE).service_key.get_secret_value() == "general"


def test_the_key_of_a_project_is_not_sent_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", PROJECT)
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "general")
    with pytest.raises(ConfigurationError, match="TARGET_SUPABASE_SERVICE_KEY"):
        project("supabase:https://other.supabase.co")


def test_the_database_of_a_project_has_its_password_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SUPABASE_URL", PROJECT)
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "key")
    monkeypatch.setenv("SUPABASE_DB_URL", WITH_PASSWORD)
    endpoint = project("supabase", database=APP)
    assert endpoint.database is not None
    assert endpoint.database.password == "s3cret"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("postgresql://app@db/app", "write sql for the database of DATABASE_URL, or sql:URL"),
        ("sqlite:///app.db", "supabase for the project of SUPABASE_URL, or supabase:URL"),
        ("sql:mysql://db/app", "use postgresql:// or sqlite:///"),
        ("supabase", "set SOURCE_SUPABASE_URL or SUPABASE_URL"),
        ("supabase:abcdefgh", "set SOURCE_SUPABASE_URL or SUPABASE_URL"),
    ],
)
def test_an_address_that_is_not_understood_says_how_to_write_it(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_endpoint(text, Role.SOURCE)
    assert message in raised.value.detail


@pytest.mark.parametrize(
    "address",
    [
        "https://user:s3cret@abcdefgh.supabase.co",
        "https://abcdefgh.supabase.co?key=s3cret",
        "https://abcdefgh.supabase.co#s3cret",
    ],
)
def test_a_secret_in_the_address_of_a_project_is_rejected_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError, match="write the address alone") as raised:
        project(f"supabase:{address}")
    assert "s3cret" not in raised.value.detail


@pytest.mark.parametrize("path", ["file:app%20db?", "file:{folder}/app%20db?mode=ro&", "app db?"])
def test_a_uri_of_sqlite_is_the_path_of_its_file(path: str, tmp_path: Path) -> None:
    endpoint = sql(f"sql:sqlite:///{path.format(folder=tmp_path)}uri=true")
    assert endpoint.address == f"sql:sqlite:///{tmp_path}/app db"


@pytest.mark.parametrize("option", ["mode=memory&cache=shared", "vfs=unix-none", "immutable=1"])
def test_what_is_no_file_of_sqlite_is_rejected(option: str) -> None:
    with pytest.raises(ConfigurationError, match="needs the file itself"):
        sql(f"sql:sqlite:///file:app?{option}&uri=true")
