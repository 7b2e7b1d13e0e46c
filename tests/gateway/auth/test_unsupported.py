"""Settings of Supabase Auth that protect accounts and have no effect here."""

from pathlib import Path

import pytest

from amphibase.errors import ConfigurationError
from amphibase.gateway.build import check


@pytest.mark.parametrize(
    "line",
    [
        "GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_ENABLED=true",
        "GOTRUE_HOOK_BEFORE_USER_CREATED_URI=pg-functions://postgres/public/check",
        "GOTRUE_SESSIONS_TIMEBOX=24h",
        "GOTRUE_SESSIONS_SINGLE_PER_USER=true",
        "GOTRUE_SECURITY_UPDATE_PASSWORD_REQUIRE_CURRENT_PASSWORD=true",
        "GOTRUE_SECURITY_CAPTCHA_ENABLED=true",
        "GOTRUE_PASSWORD_HIBP_ENABLED=true",
        "GOTRUE_SMS_TEST_OTP=4152127777:123456",
        "GOTRUE_RATE_LIMIT_EMAIL_SENT=30",
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
    Path(".env").write_text(f"GOTRUE_HOOK_CUSTOM_ACCESS_TOKEN_ENABLED={value}")
    check()
