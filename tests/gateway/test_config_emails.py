"""What config.toml says of emails: how many go out, what they say, and captchas."""

from pathlib import Path

import pytest

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth.rate_limit_settings import MessageRate
from amphibase.gateway.auth.settings import load_auth_settings
from amphibase.gateway.config_toml import read_config

RATE_LIMITS = """
[auth.rate_limit]
email_sent = 2
sms_sent = 30
anonymous_users = 30
token_refresh = 150
sign_in_sign_ups = 30
token_verifications = 30
web3 = 30
"""


def test_the_rate_limits_of_a_new_project_do_not_limit(config: Path) -> None:
    config.write_text(RATE_LIMITS)
    assert (dict(read_config().values), read_config().unknown) == ({}, ())


def test_other_rate_limits_do(config: Path) -> None:
    config.write_text(RATE_LIMITS.replace("30", "7").replace("150", "8"))
    auth = load_auth_settings()
    assert auth.rate_limit_sms_sent == MessageRate(7)
    assert (auth.rate_limit_anonymous_users, auth.rate_limit_token_refresh) == (7, 8)
    assert (auth.rate_limit_otp, auth.rate_limit_verify, auth.rate_limit_web3) == (7, 7, 7)


@pytest.mark.parametrize("is_in_file", [True, False])
def test_emails_are_limited_where_a_mail_server_sends_them(
    config: Path, monkeypatch: pytest.MonkeyPatch, is_in_file: bool
) -> None:
    server = '[auth.email.smtp]\nhost = "mail.example.com"\n'
    enabled = "true" if is_in_file else "false"
    config.write_text(f"{RATE_LIMITS}{server}enabled = {enabled}")
    if not is_in_file:
        assert load_auth_settings().rate_limit_email_sent is None
        monkeypatch.setenv("GOTRUE_SMTP_HOST", "mail.example.com")
    assert load_auth_settings().rate_limit_email_sent == MessageRate(2)


def test_notifications_are_enabled_and_have_templates_beside_the_file(config: Path) -> None:
    config.write_text(
        """
        [auth.email.notification.password_changed]
        enabled = true
        subject = "Changed"
        content_path = "./templates/changed.html"
        [auth.email.notification.mfa_factor_unenrolled]
        enabled = false
        """
    )
    template = config.parent / "templates/changed.html"
    template.parent.mkdir()
    template.write_text("{{ .Email }}")
    auth = load_auth_settings()
    assert auth.mailer_notifications_password_changed_enabled
    assert auth.mailer_subjects_password_changed_notification == "Changed"
    assert auth.mailer_template_password_changed_notification == "{{ .Email }}"
    assert not auth.mailer_notifications_mfa_factor_unenrolled_enabled
    assert read_config().unknown == ()


def test_emails_have_subjects_and_templates(config: Path) -> None:
    config.write_text(
        """
        [auth.email.template.invite]
        subject = "{{ .Data.team }} invites you"
        content_path = "./supabase/templates/invite.html"
        """
    )
    template = config.parent / "templates/invite.html"
    template.parent.mkdir()
    template.write_text("<a href='{{ .ConfirmationURL }}'>Accept</a>")
    auth = load_auth_settings()
    assert auth.mailer_subjects_invite == "{{ .Data.team }} invites you"
    assert auth.mailer_template_invite == template.read_text()
    assert read_config().unknown == ()
    template.write_text("{{ range .Data }}{{ end }}")
    key = "auth.email.template.invite.content_path"
    with pytest.raises(ConfigurationError, match=f"{key}: .*range"):
        load_auth_settings()
    template.unlink()
    with pytest.raises(ConfigurationError, match=f"{key}: cannot read"):
        load_auth_settings()
