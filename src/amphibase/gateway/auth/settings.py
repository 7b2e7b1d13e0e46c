"""The configuration of Auth, by the names that Supabase's own has (`GOTRUE_…`)."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import formataddr
from typing import Annotated, Any, Literal
from urllib.parse import quote, urljoin, urlsplit

from pydantic import (
    AliasChoices,
    AliasGenerator,
    AwareDatetime,
    BeforeValidator,
    Field,
    SecretStr,
)
from pydantic import field_validator as validator
from pydantic_settings import NoDecode, SettingsConfigDict

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth.durations import parse_duration
from amphibase.gateway.auth.external.settings import ExternalSettings
from amphibase.gateway.auth.hooks.settings import HookSettings
from amphibase.gateway.auth.mail_settings import MailSettings
from amphibase.gateway.auth.rate_limit_settings import RateLimitSettings
from amphibase.gateway.auth.redirects import glob_to_regex
from amphibase.gateway.config_toml import setting_name
from amphibase.gateway.project_settings import ProjectSettings
from amphibase.gateway.unsupported import AUTH, reject_unsupported
from amphibase.settings.loading import CommaSeparated, load

FOREVER = timedelta(days=36500)


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]


def _test_codes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [pair.partition(":") for pair in value.split(",") if pair.strip()]
    codes = {phone.strip().removeprefix("+"): code.strip() for phone, _, code in pairs}
    if not all(re.fullmatch(r"[1-9][0-9]{1,14}", phone) and codes[phone] for phone in codes):
        raise ValueError("must be numbers with their codes, such as 4915550100:123456")
    return codes


TestCodes = Annotated[dict[str, str], NoDecode, BeforeValidator(_test_codes)]


class AuthSettings(
    HookSettings, ExternalSettings, MailSettings, RateLimitSettings, ProjectSettings
):
    """Who may sign up and how, how long tokens live, and where emails go.

    Build it with `load_auth_settings()` to get readable errors.
    """

    model_config = SettingsConfigDict(
        alias_generator=AliasGenerator(validation_alias=lambda name: f"GOTRUE_{name.upper()}"),
    )

    site_url: str = Field("http://127.0.0.1:3000", examples=["https://example.com"])
    uri_allow_list: CommaSeparated = Field((), examples=["https://*.example.com/**,app://callback"])
    api_external_url: str = Field(
        "http://127.0.0.1:54321",
        validation_alias=AliasChoices("API_EXTERNAL_URL", "GOTRUE_API_EXTERNAL_URL"),
        examples=["https://api.example.com"],
    )

    db_max_pool_size: int = Field(10, ge=1, le=1000, examples=["10"])

    jwt_exp: int = Field(3600, ge=1, le=604_800, examples=["3600"], description="seconds")
    jwt_aud: str = Field("authenticated", examples=["authenticated"])
    jwt_issuer: str | None = Field(None, examples=["https://api.example.com/auth/v1"])
    jwt_admin_roles: CommaSeparated = Field(
        ("service_role", "supabase_admin"), examples=["service_role"]
    )

    disable_signup: bool = Field(False, examples=["false"])
    external_email_enabled: bool = Field(True, examples=["true"])
    external_email_magic_link_enabled: bool = Field(True, examples=["false"])
    external_anonymous_users_enabled: bool = Field(False, examples=["true"])
    custom_oauth_enabled: bool = Field(True, examples=["false"])
    custom_oauth_max_providers: int = Field(0, ge=0, examples=["3"])
    custom_oauth_external_url: str | None = Field(
        None, examples=["https://login.example.com/auth/v1"]
    )
    experimental_cursor_pagination_enabled: bool = Field(False, examples=["true"])
    experimental_create_email_identity_on_password_set_enabled: bool = Field(
        False, examples=["true"]
    )
    external_phone_enabled: bool = Field(False, examples=["true"])
    sms_autoconfirm: bool = Field(False, examples=["true"])
    sms_max_frequency: Duration = Field(timedelta(seconds=5), examples=["60s"])
    sms_otp_exp: int = Field(6000, ge=1, le=604_800, examples=["60"], description="seconds")
    sms_otp_length: int = Field(6, ge=6, le=10, examples=["6"])
    sms_test_otp: TestCodes = Field({}, examples=["4915550100:123456"], repr=False)
    sms_test_otp_valid_until: AwareDatetime | None = Field(None, examples=["2030-01-01T00:00:00Z"])

    security_refresh_token_rotation_enabled: bool = Field(True, examples=["true"])
    security_refresh_token_reuse_interval: int = Field(
        10, ge=0, le=86_400, examples=["10"], description="seconds"
    )
    security_update_password_require_reauthentication: bool = Field(False, examples=["true"])
    security_update_password_require_current_password: bool = Field(False, examples=["true"])
    security_captcha_enabled: bool = Field(False, examples=["true"])
    security_captcha_provider: Literal["hcaptcha", "turnstile"] = Field(
        "hcaptcha", examples=["turnstile"]
    )
    security_captcha_secret: SecretStr | None = Field(None, examples=["the secret of the site"])
    security_captcha_timeout: Duration = Field(timedelta(seconds=10), examples=["10s"])
    security_manual_linking_enabled: bool = Field(False, examples=["true"])
    sessions_inactivity_timeout: Duration = Field(timedelta(0), examples=["720h"])
    sessions_allow_low_aal: Duration = Field(timedelta(0), examples=["24h"])
    sessions_timebox: Duration = Field(timedelta(0), examples=["24h"])
    audit_log_disable_postgres: bool = Field(False, examples=["true"])
    sessions_single_per_user: bool = Field(False, examples=["true"])

    password_min_length: int = Field(6, ge=1, le=256, examples=["6"])
    password_required_characters: str = Field(
        "", examples=["abcdefghijklmnopqrstuvwxyz:ABCDEFGHIJKLMNOPQRSTUVWXYZ:0123456789"]
    )

    password_hibp_enabled: bool = Field(False, examples=["true"])
    password_hibp_fail_closed: bool = Field(False, examples=["true"])

    mfa_totp_enroll_enabled: bool = Field(True, examples=["true"])
    mfa_totp_verify_enabled: bool = Field(True, examples=["true"])
    mfa_phone_enroll_enabled: bool = Field(False, examples=["true"])
    mfa_phone_verify_enabled: bool = Field(False, examples=["true"])
    mfa_phone_otp_length: int = Field(6, ge=6, le=10, examples=["6"])
    mfa_phone_max_frequency: Duration = Field(timedelta(seconds=5), examples=["60s"])
    mfa_max_enrolled_factors: int = Field(10, ge=0, le=100, examples=["10"])
    mfa_max_verified_factors: int = Field(10, ge=0, le=100, examples=["10"])
    mfa_challenge_expiry_duration: int = Field(
        300, ge=1, le=86_400, examples=["300"], description="seconds"
    )
    mfa_factor_expiry_duration: Duration = Field(timedelta(seconds=300), examples=["300s"])

    mailer_autoconfirm: bool = Field(True, examples=["true"])
    mailer_confirmation_asks_password: bool = Field(False, examples=["true"])
    mailer_secure_email_change_enabled: bool = Field(True, examples=["true"])
    mailer_otp_exp: int = Field(3600, ge=1, le=604_800, examples=["3600"], description="seconds")
    mailer_otp_length: int = Field(6, ge=6, le=10, examples=["6"])
    mailer_urlpaths_invite: str | None = Field(None, examples=["/auth/v1/verify"])
    mailer_urlpaths_confirmation: str | None = Field(None, examples=["/auth/v1/verify"])
    mailer_urlpaths_recovery: str | None = Field(None, examples=["/auth/v1/verify"])
    mailer_urlpaths_email_change: str | None = Field(None, examples=["/auth/v1/verify"])

    smtp_host: str | None = Field(None, examples=["mail.example.com"])
    smtp_port: int = Field(587, ge=1, le=65535, examples=["587"])
    smtp_user: str | None = Field(None, examples=["mailer"])
    smtp_pass: SecretStr | None = Field(None, examples=["the password of the mail server"])
    smtp_admin_email: str = Field("admin@localhost", examples=["hello@example.com"])
    smtp_sender_name: str = Field("", examples=["Example"])
    smtp_max_frequency: Duration = Field(timedelta(seconds=1), examples=["60s"])

    @validator("uri_allow_list")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(glob_to_regex(pattern))
            except re.error:
                raise ValueError(f"{pattern} is no pattern of URLs") from None
        return value

    @validator("site_url", "api_external_url", "custom_oauth_external_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if value is not None and not (parts.scheme and parts.netloc):
            raise ValueError("must be a whole URL, such as https://example.com")
        return value

    @validator("smtp_sender_name", "smtp_admin_email")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be one line")
        return value

    def test_code(self, phone: str) -> str | None:
        """Return the code that a number always has in tests; None for any other number."""
        valid_until = self.sms_test_otp_valid_until
        if valid_until is not None and valid_until < datetime.now(UTC):
            return None
        return self.sms_test_otp.get(phone)

    @property
    def service_url(self) -> str:
        """Where this service is reached: `API_EXTERNAL_URL`, below /auth/v1 if it has no path."""
        has_path = urlsplit(self.api_external_url).path != ""
        return self.api_external_url.rstrip("/") if has_path else f"{self.api_external_url}/auth/v1"

    @property
    def issuer(self) -> str:
        """The `iss` of access tokens."""
        return self.jwt_issuer or self.service_url

    def verify_url(self, path: str | None) -> str:
        """Return where a link in an email leads; a path of one's own counts from the front door."""
        if path is None:
            return f"{self.service_url}/verify"
        return urljoin(self.api_external_url, path)

    @property
    def sender(self) -> str:
        """The From of emails."""
        return formataddr((self.smtp_sender_name, self.smtp_admin_email))

    @property
    def smtp_url(self) -> str | None:
        """The mail server as `Smtp` takes it; None where none is configured."""
        if self.smtp_host is None:
            return None
        scheme = "smtps" if self.smtp_port == 465 else "smtp"
        user = ""
        if self.smtp_user:
            password = self.smtp_pass.get_secret_value() if self.smtp_pass else ""
            user = f"{quote(self.smtp_user, safe='')}:{quote(password, safe='')}@"
        return f"{scheme}://{user}{self.smtp_host}:{self.smtp_port}"

    @property
    def session_lifetime(self) -> timedelta:
        """How long a session lasts without a refresh."""
        return self.sessions_inactivity_timeout or FOREVER


def load_auth_settings(**overrides: Any) -> AuthSettings:
    """Read the environment and `.env`.

    Args:
        overrides: values by field name that win over the environment.

    Raises:
        ConfigurationError: one line for each wrong value: the variable, the fault, an example; or
            for each protection that the environment asks for and Auth does not give.
    """
    reject_unsupported("Auth", AUTH)
    settings = load(AuthSettings, **overrides)
    settings.check_hooks()
    settings.check_providers()
    if settings.security_captcha_enabled and settings.security_captcha_secret is None:
        setting = setting_name("GOTRUE_SECURITY_CAPTCHA_SECRET")
        raise ConfigurationError(f"{setting}: is missing, and captchas are enabled")
    return settings
