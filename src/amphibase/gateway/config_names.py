"""The keys of `supabase/config.toml`, and the environment variables of the services they stand for.

The keys are those of the Supabase CLI's documentation
(https://supabase.com/docs/guides/local-development/cli/config), the variables those of PostgREST,
Supabase Auth and Supabase Storage.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from amphibase.gateway.auth.email_names import EMAILS, NOTIFICATIONS
from amphibase.settings.published_secrets import CLI_JWT_SECRET

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "api.port": "GATEWAY_PORT",
        "api.external_url": "API_EXTERNAL_URL",
        "api.schemas": "PGRST_DB_SCHEMAS",
        "api.extra_search_path": "PGRST_DB_EXTRA_SEARCH_PATH",
        "api.max_rows": "PGRST_DB_MAX_ROWS",
        "api.auto_expose_new_tables": "GATEWAY_AUTO_EXPOSE_NEW_TABLES",
        "db.port": "GATEWAY_DB_PORT",
        "inbucket.port": "GATEWAY_INBOX_PORT",
        "local_smtp.port": "GATEWAY_INBOX_PORT",
        "storage.file_size_limit": "FILE_SIZE_LIMIT",
        "storage.image_transformation.enabled": "IMAGE_TRANSFORMATION_ENABLED",
        "storage.s3_protocol.enabled": "S3_PROTOCOL_ENABLED",
        "auth.site_url": "GOTRUE_SITE_URL",
        "auth.additional_redirect_urls": "GOTRUE_URI_ALLOW_LIST",
        "auth.jwt_expiry": "GOTRUE_JWT_EXP",
        "auth.signing_keys_path": "GOTRUE_JWT_KEYS",
        "auth.jwt_issuer": "GOTRUE_JWT_ISSUER",
        "auth.jwt_secret": "JWT_SECRET",
        "auth.anon_key": "ANON_KEY",
        "auth.service_role_key": "SERVICE_ROLE_KEY",
        "auth.publishable_key": "SUPABASE_PUBLISHABLE_KEY",
        "auth.secret_key": "SUPABASE_SECRET_KEY",
        "auth.enable_refresh_token_rotation": "GOTRUE_SECURITY_REFRESH_TOKEN_ROTATION_ENABLED",
        "auth.refresh_token_reuse_interval": "GOTRUE_SECURITY_REFRESH_TOKEN_REUSE_INTERVAL",
        "auth.enable_signup": "GOTRUE_DISABLE_SIGNUP",
        "auth.enable_anonymous_sign_ins": "GOTRUE_EXTERNAL_ANONYMOUS_USERS_ENABLED",
        "auth.enable_manual_linking": "GOTRUE_SECURITY_MANUAL_LINKING_ENABLED",
        "auth.minimum_password_length": "GOTRUE_PASSWORD_MIN_LENGTH",
        "auth.password_requirements": "GOTRUE_PASSWORD_REQUIRED_CHARACTERS",
        "auth.email.enable_signup": "GOTRUE_EXTERNAL_EMAIL_ENABLED",
        "auth.email.enable_confirmations": "GOTRUE_MAILER_AUTOCONFIRM",
        "auth.email.double_confirm_changes": "GOTRUE_MAILER_SECURE_EMAIL_CHANGE_ENABLED",
        "auth.email.secure_password_change": (
            "GOTRUE_SECURITY_UPDATE_PASSWORD_REQUIRE_REAUTHENTICATION"
        ),
        "auth.email.max_frequency": "GOTRUE_SMTP_MAX_FREQUENCY",
        "auth.email.otp_length": "GOTRUE_MAILER_OTP_LENGTH",
        "auth.email.otp_expiry": "GOTRUE_MAILER_OTP_EXP",
        "auth.email.smtp.host": "GOTRUE_SMTP_HOST",
        "auth.email.smtp.port": "GOTRUE_SMTP_PORT",
        "auth.email.smtp.user": "GOTRUE_SMTP_USER",
        "auth.email.smtp.pass": "GOTRUE_SMTP_PASS",
        "auth.email.smtp.admin_email": "GOTRUE_SMTP_ADMIN_EMAIL",
        "auth.email.smtp.sender_name": "GOTRUE_SMTP_SENDER_NAME",
        "auth.sms.enable_signup": "GOTRUE_EXTERNAL_PHONE_ENABLED",
        "auth.sms.enable_confirmations": "GOTRUE_SMS_AUTOCONFIRM",
        "auth.sms.max_frequency": "GOTRUE_SMS_MAX_FREQUENCY",
        "auth.sms.test_otp": "GOTRUE_SMS_TEST_OTP",
        "auth.mfa.max_enrolled_factors": "GOTRUE_MFA_MAX_ENROLLED_FACTORS",
        "auth.mfa.totp.enroll_enabled": "GOTRUE_MFA_TOTP_ENROLL_ENABLED",
        "auth.mfa.totp.verify_enabled": "GOTRUE_MFA_TOTP_VERIFY_ENABLED",
        "auth.mfa.phone.enroll_enabled": "GOTRUE_MFA_PHONE_ENROLL_ENABLED",
        "auth.mfa.phone.verify_enabled": "GOTRUE_MFA_PHONE_VERIFY_ENABLED",
        "auth.mfa.phone.otp_length": "GOTRUE_MFA_PHONE_OTP_LENGTH",
        "auth.mfa.phone.max_frequency": "GOTRUE_MFA_PHONE_MAX_FREQUENCY",
        "auth.sessions.timebox": "GOTRUE_SESSIONS_TIMEBOX",
        "auth.sessions.inactivity_timeout": "GOTRUE_SESSIONS_INACTIVITY_TIMEOUT",
        "auth.rate_limit.anonymous_users": "GOTRUE_RATE_LIMIT_ANONYMOUS_USERS",
        "auth.rate_limit.email_sent": "GOTRUE_RATE_LIMIT_EMAIL_SENT",
        "auth.rate_limit.sign_in_sign_ups": "GOTRUE_RATE_LIMIT_OTP",
        "auth.rate_limit.sms_sent": "GOTRUE_RATE_LIMIT_SMS_SENT",
        "auth.rate_limit.token_refresh": "GOTRUE_RATE_LIMIT_TOKEN_REFRESH",
        "auth.rate_limit.token_verifications": "GOTRUE_RATE_LIMIT_VERIFY",
        "auth.rate_limit.web3": "GOTRUE_RATE_LIMIT_WEB3",
        "auth.captcha.enabled": "GOTRUE_SECURITY_CAPTCHA_ENABLED",
        "auth.captcha.provider": "GOTRUE_SECURITY_CAPTCHA_PROVIDER",
        "auth.captcha.secret": "GOTRUE_SECURITY_CAPTCHA_SECRET",
    }
)

_EMAILS, _NOTIFICATIONS = (f"({'|'.join(names)})" for names in (EMAILS, NOTIFICATIONS))

PATTERNS = (
    (re.compile(rf"auth\.email\.template\.{_EMAILS}\.subject"), r"gotrue_mailer_subjects_\1"),
    (
        re.compile(rf"auth\.email\.template\.{_EMAILS}\.content_path"),
        r"gateway_mailer_template_\1",
    ),
    (
        re.compile(rf"auth\.email\.notification\.{_NOTIFICATIONS}\.enabled"),
        r"gotrue_mailer_notifications_\1_enabled",
    ),
    (
        re.compile(rf"auth\.email\.notification\.{_NOTIFICATIONS}\.subject"),
        r"gotrue_mailer_subjects_\1_notification",
    ),
    (
        re.compile(rf"auth\.email\.notification\.{_NOTIFICATIONS}\.content_path"),
        r"gateway_mailer_template_\1_notification",
    ),
    (re.compile(r"auth\.hook\.(\w+)\.(enabled|uri|secrets)"), r"gotrue_hook_\1_\2"),
    (
        re.compile(
            r"auth\.external\.(apple|azure|discord|github|gitlab|google|keycloak)"
            r"\.(enabled|client_id|secret|redirect_uri|url|skip_nonce_check|email_optional)"
        ),
        r"gotrue_external_\1_\2",
    ),
)
"""Keys with a name in them, and the variable in small letters."""

_TABLES = (
    (re.compile(r"gotrue_hook_(\w+)_(enabled|uri|secrets)"), r"auth.hook.\1.\2"),
    (re.compile(r"gotrue_security_captcha_(\w+)"), r"auth.captcha.\1"),
    (re.compile(r"gotrue_external_([a-z]+)_(\w+)"), r"auth.external.\1.\2"),
)


def key_in_table(variable: str) -> str | None:
    """Return the key of a variable that is one of a table of its own: of hooks, captchas and
    third parties."""
    for pattern, template in _TABLES:
        if match := pattern.fullmatch(variable.lower()):
            return match.expand(template)
    return None


INVERTED = frozenset(
    ("auth.enable_signup", "auth.email.enable_confirmations", "auth.sms.enable_confirmations")
)
"""Keys whose variable means the opposite."""

CLI_DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        # Where these are taken, the next free port is as good.
        "api.port": "54321",
        "db.port": "54322",
        "inbucket.port": "54324",
        "local_smtp.port": "54324",
        # Nobody has vectors in Storage without a bucket of them.
        "storage.vector.enabled": "true",
        "storage.vector.max_buckets": "10",
        "storage.vector.max_indexes": "5",
        "auth.jwt_secret": CLI_JWT_SECRET,
        "auth.rate_limit.anonymous_users": "30",
        "auth.rate_limit.sign_in_sign_ups": "30",
        "auth.rate_limit.sms_sent": "30",
        "auth.rate_limit.token_refresh": "150",
        "auth.rate_limit.token_verifications": "30",
        "auth.rate_limit.web3": "30",
        "auth.sms.max_frequency": "5s",
        "auth.sms.template": "Your code is {{ .Code }}",
        "auth.mfa.phone.otp_length": "6",
        "auth.mfa.phone.max_frequency": "5s",
        "auth.mfa.phone.template": "Your code is {{ .Code }}",
        "auth.oauth_server.allow_dynamic_registration": "false",
        "auth.oauth_server.authorization_url_path": "/oauth/consent",
    }
)
"""Values that the file has in every new project, and that ask for nothing."""

ALWAYS_ON = frozenset(
    f"{service}.enabled"
    for service in ("api", "auth", "storage", "realtime", "inbucket", "local_smtp")
)
"""Keys of services that the gateway always has."""

NOT_HERE = frozenset(
    (
        "project_id", "studio", "analytics", "edge_runtime", "experimental", "remotes", "functions",
        "db.health_timeout", "db.shadow_port", "realtime.ip_version", "realtime.max_header_length",
    )
)  # fmt: skip
"""Tables and keys about services that the gateway has not, about other projects, and about
containers. The start names edge functions by their folders."""
