"""Settings: what is read, from where, and what a wrong value gets."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from amphibase import ConfigurationError, Settings, load_settings
from amphibase.gateway.auth.settings import AuthSettings
from amphibase.gateway.keys import api_key
from amphibase.gateway.realtime.settings import RealtimeSettings
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.settings import GatewaySettings
from amphibase.gateway.storage.settings import StorageSettings
from amphibase.settings.loading import variables
from amphibase.settings.misspelt_variables import misspelt_variables
from amphibase.settings.published_secrets import CLI_JWT_SECRET, CLI_PUBLISHABLE_KEY, CLI_SECRET_KEY

Environment = pytest.MonkeyPatch

SELF_HOSTED_SERVICE_KEY = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyAgCiAgICAicm9sZSI6ICJzZXJ2aWNlX3JvbGUiLAogICAgImlzcyI6"
    "ICJzdXBhYmFzZS1kZW1vIiwKICAgICJpYXQiOiAxNjQxNzY5MjAwLAogICAgImV4cCI6IDE3OTk1MzU2MDAKfQ."
    "DaYlNEoUrrEn2Ig7tqibS-PHK5vgusbcbo7X36XVt4Q"
)
"""Of the file .env.example that Supabase's compose file comes with."""


def test_without_any_the_database_is_a_file_in_the_data_folder() -> None:
    settings = load_settings()
    assert str(settings.database) == "sqlite+aiosqlite:///data/amphibase.db"
    assert settings.environment == "development"
    assert settings.access_token_lifetime == timedelta(minutes=15)
    assert {action: str(limit) for action, limit in settings.rate_limits.items()} == {
        "sign-in": "10 per 1 minute",
        "sign-in-client": "60 per 1 minute",
        "sign-in-address": "600 per 1 hour",
        "sign-up": "60 per 1 minute",
        "forgot": "10 per 1 minute",
        "reset": "10 per 1 minute",
        "resend": "10 per 1 minute",
        "email-address": "20 per 1 hour",
        "oauth": "60 per 1 minute",
    }


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_usual_scheme_means_the_one_driver(scheme: str) -> None:
    settings = load_settings(database_url=f"{scheme}://ann:pw@db/app?ssl=require")
    assert settings.database.drivername == "postgresql+psycopg"
    assert settings.database.query == {"sslmode": "require"}


@pytest.mark.parametrize(("ssl", "mode"), [("true", "require"), ("false", "disable")])
def test_asyncpgs_words_for_tls_are_libpqs(ssl: str, mode: str) -> None:
    """A URL that was written for asyncpg works as it is."""
    settings = load_settings(database_url=f"postgres://db/app?ssl={ssl}")
    assert settings.database.query == {"sslmode": mode}


def test_the_prefixed_name_wins(monkeypatch: Environment) -> None:
    monkeypatch.setenv("POOL_SIZE", "8")
    assert load_settings().pool_size == 8
    monkeypatch.setenv("AMPHIBASE_POOL_SIZE", "7")
    assert load_settings().pool_size == 7


def test_what_is_almost_a_setting_or_has_the_prefix_of_one_is_named(
    monkeypatch: Environment,
) -> None:
    class Own(Settings):
        color: str = "red"

    Path(".env").write_text("AMPHIBASE_DATABSE_URL=x\nDATABSE_URL=x\nCACHE_URL=x\n")
    for name in ("AMPHIBASE_RSL", "AMPHIBASE_RLS", "Amphibase_Pool_Size", "AMPHIBASE_COLOR"):
        monkeypatch.setenv(name, "x")
    assert misspelt_variables(Own) == [
        "AMPHIBASE_DATABSE_URL (AMPHIBASE_DATABASE_URL?)",
        "AMPHIBASE_RSL",  # AMPHIBASE_RLS is there
        "DATABSE_URL (DATABASE_URL?)",
    ]
    assert "AMPHIBASE_COLOR" in misspelt_variables(Settings)


def test_no_name_of_the_local_supabase_is_taken_for_a_misspelt_setting(
    monkeypatch: Environment,
) -> None:
    before = set(misspelt_variables(Settings))
    for kind in (GatewaySettings, RestSettings, AuthSettings, StorageSettings, RealtimeSettings):
        for field in kind.model_fields:
            for name in variables(kind, field):
                monkeypatch.setenv(name, "x")
    assert set(misspelt_variables(Settings)) == before


def test_an_override_that_is_no_setting_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"^databse_url: is no setting; database_url is"):
        load_settings(databse_url="sqlite:///a.db")


def test_a_file_is_read_and_the_environment_wins(monkeypatch: Environment) -> None:
    Path(".env").write_text("POOL_SIZE=8\nPUBLIC_URL=https://api.example.com/\nOTHER=x\n")
    assert load_settings().pool_size == 8
    assert load_settings().public_url == "https://api.example.com"
    monkeypatch.setenv("POOL_SIZE", "9")
    assert load_settings().pool_size == 9


def test_settings_of_an_application_may_use_all_that_pydantic_reads(
    monkeypatch: Environment,
) -> None:
    class Own(Settings):
        model_config = SettingsConfigDict(
            secrets_dir="secrets", env_nested_delimiter="__", case_sensitive=True
        )

        mailer: dict[str, str] = Field(default_factory=dict)

    Path("secrets").mkdir()
    Path("secrets/SECRET_KEY").write_text("s" * 32)
    monkeypatch.setenv("MAILER__host", "mail.example.com")
    own = Own()
    assert own.secret_key is not None
    assert own.mailer == {"host": "mail.example.com"}


@pytest.mark.parametrize("name", ["POOL_SIZE", "AMPHIBASE_POOL_SIZE", "Amphibase_Pool_Size"])
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_one_variable_alone_is_read_by_each_of_its_names(
    monkeypatch: Environment, name: str, place: str
) -> None:
    if place == ".env":
        Path(place).write_text(f"{name}=8\n")
    else:
        monkeypatch.setenv(name, "8")
    assert load_settings().pool_size == 8


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("DATABASE_URL", "mysql://ann:hidden@db/app", "mysql:// is not supported"),
        ("DATABASE_URL", "hidden", "is not a database URL"),
        ("DATABASE_URL", "sqlite://", "must name a file"),
        ("DATABASE_URL", "sqlite://data/app.db", "three slashes"),
        ("DATABASE_URL", "postgres://ann:hidden@db:port/app", "is not a database URL"),
        ("DATABASE_URL", "postgres://ann:hidden@db/app?foo=hidden", "has the option foo"),
        ("DATABASE_URL", "postgres://ann:hidden@[db/app", "is not a URL that Postgres takes"),
        ("DATABASE_URL", "postgres://ann:hidden@db/a%00b", "is not a URL that Postgres takes"),
        ("DATABASE_URL", "sqlite:///app.db?foo=hidden", "has the option foo"),
        ("MAIL_URL", "smtp://ann:hidden@mail:port", "a number up to 65535"),
        ("MAIL_URL", "smtp://ann:hidden@mail:99999", "a number up to 65535"),
        ("PUBLIC_URL", "https://[hidden", "must have a host"),
        ("RATE_LIMIT_URL", "redis://:hidden@redis:port", "a number up to 65535"),
        ("MESSAGES_URL", "redis://:hidden@redis:port", "a number up to 65535"),
        ("MESSAGES_URL", "amqp://queue", "must start with redis:// or rediss://"),
        ("POOL_SIZE", "many-hidden", "should be a valid integer"),
        ("POOL_SIZE", "0", "should be greater than or equal to 1"),
        ("BACKEND", "hidden", "should be 'sql' or 'supabase'"),
        ("SECRET_KEY", "hidden", "at least 32 bytes"),
        ("RATE_LIMITS", "sign-in=hidden", "sign-in needs a rate such as 10/minute"),
        (
            "RATE_LIMITS",
            "hidden=1/minute",
            "the actions are sign-in, sign-in-client, sign-in-address, sign-up",
        ),
        ("RATE_LIMIT_URL", "hidden://", "must start with memory://"),
        ("CORS_ORIGINS", "hidden.example", "must start with http"),
        ("TRUSTED_PROXIES", "hidden", "an IP address or network"),
        ("PUBLIC_URL", "hidden", "must start with http"),
        ("MAIL_URL", "hidden", "must start with smtp"),
        ("FILES_URL", "ftp://hidden", "must name a place in file:///"),
        ("ALLOWED_TYPES", "hidden", "a type such as image/png"),
        ("MAX_UPLOAD_MB", "0", "should be greater than or equal to 1"),
        ("ENVIRONMENT", "hidden", "'development' or 'production'"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_name_the_fault_and_an_example(
    monkeypatch: Environment, name: str, value: str, fault: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    (line,) = caught.value.detail.splitlines()
    assert line.startswith(f"{name}: ")
    assert fault in line
    assert f"for example {name}=" in line
    assert "hidden" not in line


def test_a_file_that_is_no_text_is_a_line() -> None:
    """A .env in another encoding is said to be so."""
    Path(".env").write_bytes("PUBLIC_URL=https://köln.example".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"^\.env: is not UTF-8 text$"):
        load_settings()


def test_a_line_that_sets_nothing_is_named_without_what_it_holds() -> None:
    """Its variable was ignored, and the application ran on SQLite."""
    Path(".env").write_text(
        '# mine\nexport RLS=true\n\nDATABASE_URL="postgres://ann:hidden@db/app\n'
    )
    with pytest.raises(ConfigurationError, match=r"^\.env: line 4 is not NAME=value") as caught:
        load_settings()
    assert "hidden" not in caught.value.detail


def test_a_file_that_may_not_be_read_is_a_line(monkeypatch: Environment) -> None:
    """A .env of another user's is said to be so."""
    Path(".env").touch()

    def reject(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:  # nothing else of the test opens a file meanwhile
        patched.setattr("builtins.open", reject)
        with pytest.raises(ConfigurationError, match=r"^\.env: cannot be read: Permission denied$"):
            load_settings()


def test_all_wrong_values_are_reported_at_once(monkeypatch: Environment) -> None:
    monkeypatch.setenv("POOL_SIZE", "x")
    monkeypatch.setenv("BACKEND", "x")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert len(caught.value.detail.splitlines()) == 2


def test_production_needs_its_own_key(monkeypatch: Environment) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(ConfigurationError, match="production needs its own key"):
        load_settings()
    monkeypatch.setenv("SECRET_KEY", "x" * 32)
    assert load_settings().environment == "production"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", CLI_SECRET_KEY),
        ("SECRET_KEY", CLI_JWT_SECRET),
        ("SECRET_KEY", api_key(CLI_JWT_SECRET, "service_role")),
        ("SECRET_KEY", "your-super-secret-jwt-token-with-at-least-32-characters-long"),
        ("SECRET_KEY", "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"),
        ("SUPABASE_ANON_KEY", CLI_PUBLISHABLE_KEY),
        ("SUPABASE_SERVICE_KEY", CLI_SECRET_KEY),
        ("SUPABASE_SERVICE_KEY", SELF_HOSTED_SERVICE_KEY),
        ("SUPABASE_SERVICE_KEY", jwt.encode({"role": "service_role"}, CLI_JWT_SECRET, "HS256")),
        ("SUPABASE_JWT_SECRET", CLI_JWT_SECRET),
        ("DATABASE_URL", "postgresql://postgres:postgres@127.0.0.1:54322/postgres"),
        ("DATABASE_URL", "postgresql://db/app?user=ann&password=postgres"),
        ("ACCOUNTS_DATABASE_URL", "postgresql://postgres:postgres@db/accounts"),
        ("FILES_DATABASE_URL", "postgresql://postgres:changethis@db/files"),
        ("SUPABASE_DB_URL", "postgres://p:your-super-secret-and-long-postgres-password@db/p"),
    ],
)
def test_production_rejects_what_everyone_has_whatever_its_name(
    monkeypatch: Environment, name: str, value: str
) -> None:
    monkeypatch.setenv("SECRET_KEY", "own" * 20)
    monkeypatch.setenv(name, value)
    assert load_settings().environment == "development"
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment="production")
    (line,) = caught.value.detail.splitlines()
    assert line.startswith(f"{name}: everybody has this value")
    assert value not in line


def test_production_takes_keys_of_its_own(monkeypatch: Environment) -> None:
    own = {
        "SECRET_KEY": "own" * 20,
        "SUPABASE_SERVICE_KEY": jwt.encode({"role": "service_role"}, "own" * 20, "HS256"),
        "DATABASE_URL": "postgresql://postgres:own@db/postgres",
        "SUPABASE_DB_URL": "postgresql://db/postgres",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert load_settings(environment="production").environment == "production"


def test_sqlite_has_no_row_level_security(monkeypatch: Environment) -> None:
    monkeypatch.setenv("RLS", "true")
    with pytest.raises(ConfigurationError, match="SQLite has no row level security"):
        load_settings()


def test_rate_limits_can_be_changed_one_by_one_or_switched_off(monkeypatch: Environment) -> None:
    monkeypatch.setenv("RATE_LIMITS", "sign-in=3/hour, forgot=off")
    limits = load_settings().rate_limits
    assert str(limits["sign-in"]) == "3 per 1 hour"
    assert str(limits["sign-up"]) == "60 per 1 minute"
    assert "forgot" not in limits
    monkeypatch.setenv("RATE_LIMITS", "off")
    assert load_settings().rate_limits == {}


def test_no_secret_is_in_the_representation() -> None:
    settings = load_settings(
        database_url="postgres://ann:hidden@db/app",
        secret_key="hidden" * 8,
        mail_url="smtp://u:hidden@mail",
    )
    assert "hidden" not in repr(settings)
    assert "hidden" not in repr(settings.database)
