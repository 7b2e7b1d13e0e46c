"""`supabase/config.toml`: read as the services' own settings, which win over it."""

from pathlib import Path

import pytest

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth.settings import load_auth_settings
from amphibase.gateway.config_toml import BucketConfig, read_config
from amphibase.gateway.keys import ApiKeys, api_key
from amphibase.gateway.rest.settings import RestSettings
from amphibase.gateway.settings import GatewaySettings
from amphibase.gateway.storage.settings import StorageSettings
from amphibase.settings.loading import load

EVERY_NEW_PROJECT = """
project_id = "bakery"
[api]
enabled = true
port = 54321
schemas = ["public", "graphql_public"]
max_rows = 1000
[api.tls]
enabled = false
[db]
port = 54322
shadow_port = 54320
major_version = 17
[db.pooler]
enabled = false
default_pool_size = 20
[db.migrations]
enabled = true
schema_paths = []
[db.network_restrictions]
enabled = false
allowed_cidrs = ["0.0.0.0/0"]
[realtime]
enabled = true
[studio]
enabled = true
port = 54323
openai_api_key = "env(OPENAI_API_KEY)"
[storage]
enabled = true
file_size_limit = "50MiB"
[storage.s3_protocol]
enabled = true
[storage.analytics]
enabled = false
max_namespaces = 5
max_tables = 10
max_catalogs = 2
[storage.vector]
enabled = true
max_buckets = 10
max_indexes = 5
[auth]
enabled = true
site_url = "http://127.0.0.1:3000"
enable_signup = true
password_requirements = ""
[auth.passkey]
enabled = false
[auth.webauthn]
rp_id = "localhost"
[auth.rate_limit]
email_sent = 2
token_refresh = 150
[auth.email]
enable_signup = true
enable_confirmations = false
[auth.sms]
enable_signup = false
template = "Your code is {{ .Code }}"
[auth.sms.twilio]
enabled = false
auth_token = "env(TWILIO_TOKEN)"
[auth.external.apple]
enabled = false
client_id = ""
secret = "env(APPLE_SECRET)"
[edge_runtime]
enabled = true
[analytics]
port = 54327
"""


def test_a_project_without_the_file_has_the_defaults(config: Path) -> None:
    assert read_config().seeds == ("./seed.sql",)
    assert load(RestSettings).db_max_rows == 1000


def test_the_file_of_a_new_project_asks_for_nothing_that_is_not_here(config: Path) -> None:
    config.write_text(EVERY_NEW_PROJECT)
    found = read_config()
    assert (found.unknown, found.unset) == ((), ())
    assert load(GatewaySettings).port is None, "the next port that is free is as good"
    assert load(StorageSettings).max_object_bytes == 50 * 1024 * 1024
    assert load_auth_settings().mailer_autoconfirm


def test_each_service_takes_its_own_part(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE", "https://bakery.example")
    config.write_text(
        """
        [api]
        port = 55000
        schemas = ["public", "shop"]
        max_rows = 3
        auto_expose_new_tables = true
        [db]
        port = 55001
        [local_smtp]
        port = 55004
        [storage]
        file_size_limit = "2MB"
        [auth]
        site_url = "env(SITE)"
        additional_redirect_urls = ["https://a.example", "https://b.example/*"]
        enable_signup = false
        minimum_password_length = 10
        password_requirements = "letters_digits"
        enable_anonymous_sign_ins = true
        [auth.email]
        enable_confirmations = true
        max_frequency = "30s"
        [auth.email.smtp]
        enabled = true
        host = "mail.example"
        [auth.sessions]
        inactivity_timeout = "8h"
        [auth.external.google]
        enabled = true
        client_id = "one,two"
        secret = "env(SITE)"
        """
    )
    gateway, rest, auth = load(GatewaySettings), load(RestSettings), load_auth_settings()
    assert (gateway.port, gateway.db_port, gateway.inbox_port) == (55000, 55001, 55004)
    assert gateway.auto_expose_new_tables is True
    assert (rest.db_schemas, rest.db_max_rows) == (("public", "shop"), 3)
    assert load(StorageSettings).max_object_bytes == 2 * 1024 * 1024
    assert (auth.site_url, auth.disable_signup) == ("https://bakery.example", True)
    assert auth.uri_allow_list == ("https://a.example", "https://b.example/*")
    assert (auth.password_min_length, auth.mailer_autoconfirm) == (10, False)
    google = auth.provider("google")
    assert google is not None
    assert (google.client_ids, google.secret) == (("one", "two"), "https://bakery.example")
    assert auth.password_required_characters.endswith(":0123456789")
    assert (auth.smtp_host, auth.smtp_max_frequency.seconds) == ("mail.example", 30)
    assert auth.external_anonymous_users_enabled
    assert auth.session_lifetime.seconds == 8 * 3600
    assert read_config().unknown == ()


@pytest.mark.parametrize("name", ["JWT_SECRET", "GOTRUE_PASSWORD_MIN_LENGTH", "PGRST_DB_MAX_ROWS"])
def test_the_environment_wins(config: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    config.write_text("[api]\nmax_rows = 3\n[auth]\nminimum_password_length = 10")
    monkeypatch.setenv(name, "7" * 40 if name == "JWT_SECRET" else "7")
    rest, auth = load(RestSettings), load_auth_settings()
    assert rest.db_max_rows == (7 if name == "PGRST_DB_MAX_ROWS" else 3)
    assert auth.password_min_length == (7 if name == "GOTRUE_PASSWORD_MIN_LENGTH" else 10)


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_names_of_the_application_are_not_the_gateways(
    config: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    names = {"PORT": "8000", "HOST": "0.0.0.0", "DATABASE_URL": "sqlite:///app.db", "DATA_DIR": "x"}
    names |= {"DB_POOL": "x", "SITE_URL": "x", "SMTP_HOST": "x"}
    for name, value in names.items():
        if place == "environment":
            monkeypatch.setenv(name, value)
    if place == ".env":
        Path(".env").write_text("".join(f"{name}={value}\n" for name, value in names.items()))
    gateway = load(GatewaySettings)
    assert (gateway.host, gateway.port, gateway.database_url) == ("127.0.0.1", None, None)
    assert gateway.data_dir == Path(".amphibase")
    assert load(StorageSettings).db_pool == 10
    auth = load_auth_settings()
    assert (auth.site_url, auth.smtp_host) == ("http://127.0.0.1:3000", None)


def test_an_option_of_the_command_wins(config: Path) -> None:
    config.write_text("[api]\nport = 55000")
    assert load(GatewaySettings, port=55002).port == 55002


def test_what_has_no_effect_is_named_by_its_table(config: Path) -> None:
    config.write_text(
        """
        [auth.rate_limit]
        emails_sent = 100
        [auth.external.facebook]
        enabled = true
        client_id = "env(GOOGLE)"
        [functions.hello]
        verify_jwt = true
        [storage.vector]
        max_buckets = 11
        [storage.analytics.buckets.lake]
        [storage.vector.buckets.documents]
        [auth.passkey]
        enabled = true
        [auth.webauthn]
        rp_id = "localhost"
        [remotes.production]
        project_id = "abcdefghijklmnopqrst"
        [remotes.production.auth]
        enable_signup = false
        """
    )
    found = read_config()
    assert found.unknown == (
        "auth.rate_limit.emails_sent",
        "auth.external.facebook",
        "auth.passkey.enabled",
        "auth.webauthn.rp_id",
        "storage.vector",
        "storage.vector.buckets",
    )
    assert found.unset == ("GOOGLE",)


@pytest.mark.parametrize(
    ("table", "setting", "named"),
    [
        ("api", "enabled = false", "api.enabled"),
        ("auth", "enabled = false", "auth.enabled"),
        ("realtime", "enabled = false", "realtime.enabled"),
        ("local_smtp", "enabled = false", "local_smtp.enabled"),
        ("local_smtp", "smtp_port = 54325", "local_smtp.smtp_port"),
        ("api.tls", "enabled = true", "api.tls"),
        ("db.pooler", "enabled = true\nport = 54329", "db.pooler"),
        ("db.network_restrictions", "enabled = true", "db.network_restrictions"),
        ("auth.sms.twilio", 'enabled = true\naccount_sid = "x"', "auth.sms.twilio"),
    ],
)
def test_a_service_that_cannot_be_switched_off_or_on_is_named(
    config: Path, table: str, setting: str, named: str
) -> None:
    config.write_text(f"[{table}]\n{setting}")
    assert read_config().unknown == (named,)


def test_keys_of_the_project_are_read(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a secret of more than thirty-two bytes"
    anon, service = (api_key(secret, role) for role in ("anon", "service_role"))
    monkeypatch.setenv("SECRET_OF_TOKENS", secret)
    config.write_text(
        f"""
        [auth]
        jwt_secret = "env(SECRET_OF_TOKENS)"
        anon_key = "{anon}"
        service_role_key = "{service}"
        publishable_key = "sb_publishable_x"
        secret_key = "sb_secret_x"
        [storage.s3_protocol]
        enabled = false
        """
    )
    settings = load(GatewaySettings)
    assert settings.keys == ApiKeys(
        secret=secret,
        anon=anon,
        service_role=service,
        publishable="sb_publishable_x",
        secret_key="sb_secret_x",
    )
    assert settings.signs_with_secret
    assert settings.s3 is None


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_key_with_a_slip_is_named(config: Path, value: str) -> None:
    config.write_text(f"[auth]\nenabel_signup = {value}")
    assert read_config().unknown == ("auth.enabel_signup",)


def test_captchas_are_switched_on_with_their_secret(config: Path) -> None:
    config.write_text('[auth.captcha]\nenabled = true\nprovider = "turnstile"\nsecret = "s"')
    auth = load_auth_settings()
    assert (auth.security_captcha_enabled, auth.security_captcha_provider) == (True, "turnstile")
    config.write_text('[auth.captcha]\nenabled = true\nprovider = "turnstile"')
    with pytest.raises(
        ConfigurationError, match=r"config\.toml: auth\.captcha\.secret: is missing"
    ):
        load_auth_settings()
    config.write_text('[auth.captcha]\nenabled = false\nprovider = "hcaptcha"\nsecret = "s"')
    assert not load_auth_settings().security_captcha_enabled


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[auth]\nminimum_password_length = 0", "auth.minimum_password_length: should be greater"),
        ("[auth]\nsite_url = 'nowhere'", "auth.site_url: must be a whole URL"),
        ("[auth.external.google]\nenabled = true", "auth.external.google.client_id: is missing"),
        (
            "[auth.external.google]\nenabled = true\nclient_id = 'env(NOWHERE)'",
            "auth.external.google.client_id = env(NOWHERE): is missing, and google is enabled",
        ),
        (
            "[auth.external.keycloak]\nenabled = true\nclient_id = 'x'",
            "auth.external.keycloak.url: is missing",
        ),
        ("[auth.hook.send_sms]\nenabled = true", "auth.hook.send_sms.uri: is missing"),
        (
            "[auth.hook.send_sms]\nenabled = true\nuri = 'https://a.example'",
            "auth.hook.send_sms.secrets: is missing",
        ),
    ],
)
def test_a_value_that_auth_does_not_take_is_named_by_its_key(
    config: Path, content: str, message: str
) -> None:
    config.write_text(content)
    with pytest.raises(ConfigurationError) as error:
        load_auth_settings()
    assert error.value.detail.startswith(f"supabase/config.toml: {message}")


def test_a_value_of_the_environment_is_named_by_its_variable(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("[api]\nmax_rows = 3\nport = 1")
    monkeypatch.setenv("PGRST_DB_MAX_ROWS", "x")
    with pytest.raises(ConfigurationError, match=r"^PGRST_DB_MAX_ROWS: should be"):
        load(RestSettings)
    with pytest.raises(ConfigurationError, match=r"^GATEWAY_PORT: should be"):
        load(GatewaySettings, port="x")


def test_buckets_have_limits_types_and_files(config: Path) -> None:
    config.write_text(
        """
        [storage.buckets.photos]
        public = true
        file_size_limit = "1MiB"
        allowed_mime_types = ["image/png"]
        objects_path = "./images"
        [storage.buckets.papers]
        """
    )
    assert read_config().buckets == [
        BucketConfig("photos", True, 1024 * 1024, ("image/png",), Path("supabase/images")),
        BucketConfig("papers", False, None, (), None),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[api", "is not TOML"),
        ("[db.seed]\nsql_paths = 'a.sql'", "db.seed.sql_paths must be a list"),
        ("[db.vault]\nkey = ['hush']", r"db\.vault\.key must be a text, such as \"env\(NAME\)\"$"),
        ("[db]\nmajor_version = 'new'", "db.major_version must be a version of Postgres"),
        ("[auth]\nenable_signup = 3", "auth.enable_signup must be true or false"),
        ("[storage]\nfile_size_limit = 'much'", "storage.file_size_limit must be a size"),
        ("[auth]\npassword_requirements = 'long'", "auth.password_requirements must be one of"),
        ("auth = 3", r"auth must be a table, \[auth\]"),
        ("[storage.buckets]\nphotos = true", "storage.buckets.photos must be a table"),
    ],
)
def test_a_wrong_value_is_one_line(config: Path, content: str, message: str) -> None:
    config.write_text(content)
    with pytest.raises(ConfigurationError, match=message) as error:
        read_config()
    assert "\n" not in error.value.detail


def test_an_empty_search_path_in_the_environment_is_none_and_wins_over_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text('[api]\nextra_search_path = ["public", "api"]')
    assert load(RestSettings).db_extra_search_path == ("public", "api")
    monkeypatch.setenv("PGRST_DB_EXTRA_SEARCH_PATH", "")
    settings = load(RestSettings)
    assert settings.db_extra_search_path == ()
    in_database = settings.overridden({"db_extra_search_path": "api"})
    assert in_database.db_extra_search_path == ("api",)
