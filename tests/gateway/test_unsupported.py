"""Settings of Supabase's services that have no effect here."""

from pathlib import Path

import pytest

from amphibase.errors import ConfigurationError
from amphibase.gateway.build import check, settings_without_effect


@pytest.mark.parametrize(
    "line",
    [
        "GOTRUE_SESSIONS_TAGS=web",
        "GOTRUE_EXTERNAL_EMAIL_AUTHORIZED_ADDRESSES=ann@example.com",
        "GOTRUE_EXPERIMENTAL_PROVIDER_LINKING_DOMAINS=google=social",
        "GOTRUE_EXPERIMENTAL_PROVIDERS_WITH_OWN_LINKING_DOMAIN=google",
        "GOTRUE_SECURITY_SB_FORWARDED_FOR_ENABLED=true",
        "GOTRUE_SECURITY_DB_ENCRYPTION_ENCRYPT=true",
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_a_protection_that_has_no_effect_stops_the_start(
    line: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = line.partition("=")
    if source == ".env":
        Path(".env").write_text(line)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        check()
    assert caught.value.detail == f"{name}: is not supported by the local Auth; leave it out"


@pytest.mark.parametrize("value", ["", "false", "0", "off"])
def test_a_protection_that_is_off_is_no_matter(value: str) -> None:
    Path(".env").write_text(f"GOTRUE_SECURITY_SB_FORWARDED_FOR_ENABLED={value}")
    check()


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("STORAGE_BACKEND=s3", "objects are kept in FILE_STORAGE_BACKEND_PATH"),
        ("RATE_LIMITER_ENABLED=true", "limit requests in a proxy, and leave it out"),
        ("UPLOAD_FILE_SIZE_LIMIT_STANDARD=1000", "UPLOAD_FILE_SIZE_LIMIT limits every upload"),
        ("REQUEST_HARD_LIMITS_ENABLED=true", "leave it out"),
    ],
)
def test_so_does_one_of_storage(line: str, advice: str) -> None:
    Path(".env").write_text(line)
    name = line.partition("=")[0]
    with pytest.raises(ConfigurationError) as caught:
        check()
    assert caught.value.detail == f"{name}: is not supported by the local Storage; {advice}"


def test_what_storage_does_anyway_is_no_matter() -> None:
    Path(".env").write_text("STORAGE_BACKEND=file")
    check()
    assert settings_without_effect() == []


def test_other_settings_that_nothing_reads_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    read = [
        "GATEWAY_PORT=1",
        "GOTRUE_SITE_URL=http://x",
        "PGRST_DB_MAX_ROWS=7",
        "TUS_URL_EXPIRY_MS=9",
    ]
    elsewhere = ["GOTRUE_API_PORT=9999", "PGRST_SERVER_PORT=3000", "PGRST_JWT_SECRET=x", "OTHER=1"]
    off = ["GOTRUE_EXTERNAL_GITHUB_ENABLED=false", "PGRST_DB_ROOT_SPEC="]
    Path(".env").write_text("\n".join([*read, *elsewhere, *off, "PGRST_DB_TIMEZONE_ENABLED=true"]))
    monkeypatch.setenv("GOTRUE_EXTERNAL_FACEBOOK_ENABLED", "true")
    monkeypatch.setenv("GATEWAY_PROT", "1")
    monkeypatch.setenv("TUS_MAX_CONCURRENT_UPLOADS", "5")
    assert settings_without_effect() == [
        "GATEWAY_PROT",
        "GOTRUE_EXTERNAL_FACEBOOK_ENABLED",
        "PGRST_DB_TIMEZONE_ENABLED",
        "TUS_MAX_CONCURRENT_UPLOADS",
    ]


@pytest.mark.parametrize("value", ["false", "0", "", "1"])
def test_a_name_that_no_service_has_is_named_whatever_its_value_with_the_one_that_may_be_meant(
    value: str,
) -> None:
    names = ["GATEWAY_WHATEVER", "GOTRUE_MAILER_AUTOCONFRIM", "PGRST_DB_MAX_ROW"]
    Path(".env").write_text("\n".join(f"{name}={value}" for name in names))
    assert settings_without_effect() == [
        "GATEWAY_WHATEVER",
        "GOTRUE_MAILER_AUTOCONFRIM (GOTRUE_MAILER_AUTOCONFIRM?)",
        "PGRST_DB_MAX_ROW (PGRST_DB_MAX_ROWS?)",
    ]


def test_a_setting_that_is_set_is_not_what_another_was_meant_as() -> None:
    Path(".env").write_text("PGRST_DB_MAX_ROW=7\nPGRST_DB_MAX_ROWS=7")
    assert settings_without_effect() == ["PGRST_DB_MAX_ROW"]


@pytest.mark.parametrize(
    "name",
    [
        "GOTRUE_EXTERNAL_FACEBOOK_ENABLED",
        "GOTRUE_EXTERNAL_WEB3_SOLANA_ENABLED",
        "GOTRUE_MAILER_URLPATHS_PASSWORD_CHANGED_NOTIFICATION",
        "GOTRUE_SAML_ENABLED",
        "PGRST_DB_TIMEZONE_ENABLED",
        "TUS_ALLOW_S3_TAGS",
    ],
)
def test_what_a_service_has_and_is_switched_off_is_no_matter(name: str) -> None:
    Path(".env").write_text(f"{name}=false")
    assert settings_without_effect() == []
    Path(".env").write_text(f"{name}=true")
    assert settings_without_effect() == [name]
