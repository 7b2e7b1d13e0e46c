"""What all services have in common: the keys, and where it is safe to listen with them."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from amphibase.errors import ConfigurationError
from amphibase.gateway.keys import api_key
from amphibase.gateway.settings import GatewaySettings, revealed
from amphibase.settings.loading import load
from amphibase.settings.published_secrets import CLI_JWT_SECRET

DEFAULT_URL = "postgresql://postgres:postgres@db/postgres"
OWN = "a secret of one's own that is long enough for HS256"
COMPOSE_SECRET = "your-super-secret-jwt-token-with-at-least-32-characters-long"
ANON = api_key(OWN, "anon")
SERVICE = api_key(OWN, "service_role")
CLI_JWKS = '{"keys": [{"kty": "EC", "x": "M5Sjqn5zwC9Kl1zVfUUGvv9boQjCGd45G8sdopBExB4"}]}'
SECRET_JWK = json.dumps(
    {"kty": "oct", "k": base64.urlsafe_b64encode(CLI_JWT_SECRET.encode()).rstrip(b"=").decode()}
)
SERVICE_ROLE_KEY = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6InNlcnZpY2Vfcm9sZSIsImV4cCI6MTk4MzgxMjk5Nn0."
    "EGIM96RAZx35lJzdJsyH-qQwv8Hdp7fsn3W0YpN81IU"
)


def test_without_a_word_the_keys_are_those_of_every_tutorial() -> None:
    settings = load(GatewaySettings)
    keys = settings.keys
    assert keys.service_role == SERVICE_ROLE_KEY
    assert (keys.publishable or "").startswith("sb_publishable_")
    assert (keys.secret_key or "").startswith("sb_secret_")
    assert not settings.signs_with_secret


@pytest.mark.parametrize("name", ["JWT_SECRET", "GOTRUE_JWT_SECRET", "PGRST_JWT_SECRET"])
def test_a_secret_of_ones_own_makes_keys_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, OWN)
    settings = load(GatewaySettings)
    keys = settings.keys
    assert jwt.decode(keys.anon, OWN, ["HS256"])["role"] == "anon"
    assert jwt.decode(keys.service_role, OWN, ["HS256"])["role"] == "service_role"
    assert (keys.publishable, keys.secret_key) == (None, None)
    assert settings.signs_with_secret


def test_a_self_hosters_file_is_read(tmp_path: Path) -> None:
    Path(".env").write_text(
        f"JWT_SECRET={OWN}\nANON_KEY={ANON}\nSERVICE_ROLE_KEY={SERVICE}\n"
        "SUPABASE_SECRET_KEY=sb_secret_own\nAPI_EXTERNAL_URL=https://api.example.com/\n"
        "PGRST_DB_URI=postgres://authenticator:x@db/postgres\n"
    )
    settings = load(GatewaySettings)
    assert settings.keys.anon == ANON
    assert settings.keys.service_role == SERVICE
    assert settings.keys.token_for("sb_secret_own") == SERVICE
    assert settings.external_url == "https://api.example.com"
    assert revealed(settings.authenticator_url) == "postgresql://authenticator:x@db/postgres"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "myhost.local"])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "set JWT_SECRET, SUPABASE_PUBLISHABLE_KEY, SUPABASE_SECRET_KEY to your own"),
        ({"jwt_secret": CLI_JWT_SECRET}, "set JWT_SECRET to your own"),
        ({"jwt_secret": OWN, "service_role_key": SERVICE_ROLE_KEY}, "set SERVICE_ROLE_KEY to"),
        ({"jwt_secret": OWN, "anon_key": api_key(CLI_JWT_SECRET, "anon")}, "set ANON_KEY to"),
        ({"jwt_secret": COMPOSE_SECRET}, "set JWT_SECRET to your own"),
        ({"jwt_secret": OWN, "jwks": CLI_JWKS}, "set JWT_JWKS to your own"),
        ({"jwt_secret": OWN, "jwks": SECRET_JWK}, "set JWT_JWKS to your own"),
        ({"jwt_secret": OWN, "database_url": DEFAULT_URL}, "set GATEWAY_DATABASE_URL to your own"),
        ({"jwt_secret": OWN, "authenticator_url": DEFAULT_URL}, "set PGRST_DB_URI to your own"),
    ],
)
def test_it_does_not_listen_beyond_this_machine_with_keys_that_everyone_knows(
    host: str, given: dict[str, str], named: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(GatewaySettings, host=host, **given)
    assert named in raised.value.detail
    assert load(GatewaySettings, host=host, jwt_secret=OWN).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.53"])
def test_on_this_machine_it_listens_with_them(host: str) -> None:
    assert load(GatewaySettings, host=host).host == host


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"JWT_SECRET": "short"}, "JWT_SECRET: must have at least 32 bytes, for example"),
        ({"GATEWAY_PORT": "70000"}, "GATEWAY_PORT: should be less than or equal to 65535"),
        ({"GATEWAY_DATABASE_URL": "sqlite:///x"}, "GATEWAY_DATABASE_URL: must start with post"),
        ({"API_EXTERNAL_URL": "example.com"}, "API_EXTERNAL_URL: must start with http://"),
        ({"GATEWAY_DATABASE_URL": "postgresql://a:hush@db"}, "GATEWAY_DATABASE_URL: must name the"),
        *(
            ({name: key}, f"{name}: must be a JSON Web Token with the claim role")
            for name in ("ANON_KEY", "SERVICE_ROLE_KEY")
            for key in ("anon", "hush.hush.hush", "sb_publishable_hush", jwt.encode({}, OWN), "a.b")
        ),
        ({"PGRST_JWT_SECRET": f"@/run/{OWN}"}, "PGRST_JWT_SECRET: must be the secret itself"),
        *(
            ({name: f"postgresql://a:{rest}"}, f"{name}: cannot be read; in names and passwords")
            for name in ("GATEWAY_DATABASE_URL", "PGRST_DB_URI")
            for rest in ("hush%zz@db/x", "hu[sh@db/x", "hu@sh@db/x", "1/hush@db/x", "h/hush@db/x")
        ),
        ({"GATEWAY_DATABASE_URL": "postgresql://a:hush@db/x?hush=1"}, "GATEWAY_DATABASE_URL: can"),
    ],
)
def test_a_wrong_value_is_one_readable_line(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], line: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load(GatewaySettings)
    assert raised.value.detail.startswith(line)
    assert "\n" not in raised.value.detail
    assert "hush" not in raised.value.detail


def test_a_key_set_is_read_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGRST_JWT_SECRET", '{"keys": []}')
    assert load(GatewaySettings).keys_of_others == '{"keys": []}'
    assert not load(GatewaySettings).signs_with_secret
    monkeypatch.setenv("PGRST_JWT_SECRET", OWN)
    assert load(GatewaySettings).keys_of_others == ""
    assert load(GatewaySettings).signs_with_secret
    monkeypatch.setenv("JWT_JWKS", "none, which is reported when it is read")
    assert load(GatewaySettings).keys_of_others.startswith("none")


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_the_secret_of_the_data_api_may_be_base64(
    monkeypatch: pytest.MonkeyPatch, encode: Callable[[bytes], bytes]
) -> None:
    secret = f"{OWN} ?>~ ÿÿÿ"
    monkeypatch.setenv("PGRST_JWT_SECRET", encode(secret.encode()).decode())
    monkeypatch.setenv("PGRST_JWT_SECRET_IS_BASE64", "true")
    assert load(GatewaySettings).keys.secret == secret
    monkeypatch.setenv("JWT_SECRET", OWN)  # of all services, and as it is
    assert load(GatewaySettings).keys.secret == OWN


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("no base64 at all, but long enough to be a secret", "must be base64 of a text"),
        (base64.b64encode(b"\xff" * 40).decode(), "must be base64 of a text"),
        (base64.b64encode(b"short").decode(), "must have at least 32 bytes"),
    ],
)
def test_a_secret_that_is_no_base64_of_a_long_text_is_rejected(
    monkeypatch: pytest.MonkeyPatch, secret: str, fault: str
) -> None:
    monkeypatch.setenv("PGRST_JWT_SECRET", secret)
    monkeypatch.setenv("PGRST_JWT_SECRET_IS_BASE64", "true")
    with pytest.raises(ConfigurationError) as raised:
        load(GatewaySettings)
    assert raised.value.detail.startswith(f"PGRST_JWT_SECRET: {fault}")
    assert secret not in raised.value.detail


@pytest.mark.parametrize("url", ["https://a.example", "https://a.example/auth/v1/"])
def test_the_address_of_auth_is_the_gateways_too(url: str) -> None:
    assert load(GatewaySettings, external_url=url).external_url == "https://a.example"


def test_the_settings_show_no_secret() -> None:
    shown = repr(load(GatewaySettings, jwt_secret=OWN, database_url="postgresql://a:hush@db/x"))
    shown += repr(load(GatewaySettings).keys)
    for secret in (OWN, "hush", CLI_JWT_SECRET, SERVICE_ROLE_KEY):
        assert secret not in shown
