"""What holds for all calls: shapes of errors, limits, what everybody may ask."""

import asyncio
import base64
import time
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from tests.gateway.auth.api import PASSWORD, SECRET, SERVICE, Api, rejection

from amphibase import ConfigurationError, load_settings
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.jwt.verifier import TokenFault, TokenRejected
from amphibase.gateway.auth import (
    admin,
    admin_links,
    mfa,
    otp,
    recover,
    resend,
    sign_up,
    token,
    token_errors,
    user,
    verify,
)
from amphibase.gateway.auth.bodies import Body
from amphibase.gateway.auth.durations import parse_duration
from amphibase.gateway.auth.service import ENDPOINTS, AuthApp
from amphibase.gateway.auth.settings import load_auth_settings
from amphibase.gateway.inbox import Inbox
from amphibase.sql.backend import SqlBackend

WRONG = {"email": "ann@example.com", "password": "wrong"}
GRANT = "/token?grant_type=password"


@pytest.mark.parametrize("version", ["2024-01-01", "2025-12-31"])
async def test_an_error_has_its_code_as_a_word_for_clients_of_today(api: Api, version: str) -> None:
    response = await api.post(GRANT, WRONG, headers={"x-supabase-api-version": version})
    assert response.json() == {
        "code": "invalid_credentials",
        "message": "Invalid login credentials",
    }
    assert response.headers["x-supabase-api-version"] == "2024-01-01"
    assert response.headers["x-sb-error-code"] == "invalid_credentials"


@pytest.mark.parametrize("version", ["", "2023-12-31", "2024-13-99", "today"])
async def test_an_error_has_the_old_shape_for_clients_of_yesterday(api: Api, version: str) -> None:
    response = await api.post(GRANT, WRONG, headers={"x-supabase-api-version": version})
    assert response.json() == {
        "code": 400,
        "error_code": "invalid_credentials",
        "msg": "Invalid login credentials",
    }
    assert "x-supabase-api-version" not in response.headers
    assert response.headers["x-sb-error-code"] == "invalid_credentials"


@pytest.mark.parametrize(
    "content",
    [b"{", b"[1]", b'"x"', b"\xff", b"[" * 5000, b'{"x": NaN}'],
)
async def test_a_body_that_is_no_json_object_is_rejected(api: Api, content: bytes) -> None:
    response = await api.client.post("/signup", content=content)
    assert response.status_code == 400
    assert response.json()["error_code"] == "bad_json"


async def test_a_body_over_the_limit_is_rejected(api: Api) -> None:
    response = await api.client.post("/signup", content=b" " * (4 << 20) + b"{}")
    assert response.status_code == 413
    large = {"data": {"essay": "x" * (2 << 20)}}
    assert (await api.post("/signup", large)).json()["code"] == "anonymous_provider_disabled"


async def test_what_is_not_there_is_reported_in_the_same_shape(api: Api) -> None:
    nothing = await api.get("/nothing")
    assert (nothing.status_code, nothing.text) == (404, "404 page not found\n")
    assert nothing.headers["content-type"] == "text/plain; charset=utf-8"
    wrong = await api.get("/signup")
    assert (wrong.status_code, wrong.text, wrong.headers["allow"]) == (405, "", "POST")


@pytest.mark.parametrize(
    "path", ["/admin/nothing", "/user/nothing", "/factors", "/reauthenticate/"]
)
async def test_what_is_not_there_is_told_to_those_who_may_enter_alone(api: Api, path: str) -> None:
    stranger = await api.call("PATCH", path)
    assert rejection(stranger) == (401, "no_authorization")
    session = await api.sign_up()
    token = SERVICE if "admin" in path else session["access_token"]
    response = await api.call("PATCH", path, token=token)
    assert response.status_code == (404 if "nothing" in path else 405)


async def test_a_path_with_a_router_of_its_own_may_end_with_a_slash(api: Api) -> None:
    session = await api.sign_up()
    assert (await api.get("/user/", token=session["access_token"])).status_code == 200
    assert (await api.get("/admin/users/", token=SERVICE)).status_code == 200
    assert (await api.get("/health/")).status_code == 404


def _with_header(header: bytes) -> str:
    return base64.urlsafe_b64encode(header).rstrip(b"=").decode() + ".e30.c2ln"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("abc", "token is malformed: token contains an invalid number of segments"),
        (
            "a.b.c",
            "token is malformed: could not base64 decode header: "
            "illegal base64 data at input byte 0",
        ),
        (
            "abcd.e30.c2ln",
            "token is malformed: could not JSON decode header: "
            "invalid character 'i' looking for beginning of value",
        ),
        ("e30.e30.c2ln", "token is unverifiable: signing method (alg) is unspecified"),
        (
            _with_header(b'{"alg": "HS256", "x": "\xff"}'),
            "token signature is invalid: signature is invalid",
        ),
        (
            _with_header(b'{"alg": "HS256", "x": ' + b"1" * 5000 + b"}"),
            "token signature is invalid: signature is invalid",
        ),
        (
            _with_header(b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
            "token is malformed: could not JSON decode header: exceeded max depth",
        ),
        (
            "e30" + "A" * 70_000,
            "token is malformed: token contains an invalid number of segments",
        ),
        (
            jwt.encode({}, SECRET, "HS256").replace("eyJhbGciOiJIUzI1NiI", "eyJhbGciOiJIUzI5OSI"),
            "token is unverifiable: signing method (alg) is unavailable",
        ),
        (
            jwt.encode({}, "", "none"),
            "token signature is invalid: signing method none is invalid",
        ),
        (
            jwt.encode({}, "another secret of more than thirty-two bytes", "HS256"),
            "token signature is invalid: signature is invalid",
        ),
        (
            jwt.encode({"exp": int(time.time()) - 2}, SECRET, "HS256"),
            "token has invalid claims: token is expired",
        ),
        (
            jwt.encode({"nbf": int(time.time()) + 3600}, SECRET, "HS256"),
            "token has invalid claims: token is not valid yet",
        ),
    ],
)
async def test_a_token_is_rejected_with_the_reason(api: Api, token: str, reason: str) -> None:
    response = await api.get("/user", token=token)
    assert rejection(response) == (403, "bad_jwt")
    prefix = "invalid JWT: unable to parse or verify signature, "
    assert response.json()["message"] == prefix + reason


def test_an_unknown_key_is_named_by_what_a_response_can_hold() -> None:
    token = _with_header(rb'{"alg": "ES256", "kid": "a\ud800"}')
    named = token_errors.reason(token, TokenRejected(TokenFault.KEY))
    assert named == "token is unverifiable: error while executing keyfunc: invalid kid: a?"


async def test_everyone_may_ask_for_health_settings_and_keys(api: Api) -> None:
    health = (await api.get("/health")).json()
    assert list(health) == ["version", "name", "description"]
    assert health["description"] == "GoTrue is a user registration and authentication API"
    settings = (await api.get("/settings")).json()
    assert settings["external"]["email"] is True
    assert settings["external"]["github"] is False
    assert (settings["disable_signup"], settings["mailer_autoconfirm"]) == (False, True)
    assert not {"vercel_marketplace", "x"} & settings["external"].keys()
    assert settings["saml_private_key_next_configured"] is True
    keys = await api.get("/.well-known/jwks.json")
    assert keys.headers["cache-control"] == "public, max-age=600"
    (key,) = keys.json()["keys"]
    assert (key["alg"], "d" in key) == ("ES256", False)


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        ("github", "provider is not enabled"),
        ("GitHub", "provider is not enabled"),
        ("vercel_marketplace", "provider is not enabled"),
        ("NoBody", "Provider nobody could not be found"),
    ],
)
async def test_third_parties_are_rejected_by_name(api: Api, provider: str, reason: str) -> None:
    response = await api.get(f"/authorize?provider={provider}")
    assert rejection(response) == (400, "validation_failed")
    assert response.json()["message"] == f"Unsupported provider: {reason}"


async def test_a_lost_database_is_reported_and_no_fault(api: Api, postgres_url: str) -> None:
    service = AuthApp(
        load_auth_settings(), "postgresql://nobody@127.0.0.1:1/none", api.tokens, Inbox()
    )
    transport = httpx.ASGITransport(service)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post(GRANT, json=WRONG)
    await service.close()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


async def test_a_database_without_accounts_is_rejected_at_the_start(
    api: Api, postgres_url: str
) -> None:
    service = AuthApp(load_auth_settings(), postgres_url, api.tokens, Inbox())
    with pytest.raises(ConfigurationError, match="no table"):
        await service.start()
    await service.close()


async def test_it_serves_below_any_path(database: str) -> None:
    tokens = KeyRing([Key.generate()])
    service = AuthApp(load_auth_settings(), database, tokens, Inbox())
    transport = httpx.ASGITransport(service, root_path="/auth/v1")
    async with httpx.AsyncClient(transport=transport, base_url="http://test/auth/v1") as client:
        response = await client.post("/signup", json={"email": "a@b.c", "password": PASSWORD})
    await service.close()
    assert tokens.verify(response.json()["access_token"])["iss"] == "http://127.0.0.1:54321/auth/v1"


async def test_accounts_are_the_same_for_the_gateway_and_for_an_application(
    api: Api, database: str
) -> None:
    key = Key.generate()
    backend = SqlBackend(load_settings(database_url=database), KeyRing([key]))
    accounts = backend.accounts
    await api.sign_up(data={"name": "Ann"})
    signed_in = await accounts.sign_in("ann@example.com", PASSWORD)
    assert signed_in.account.user_metadata["name"] == "Ann"
    made = await accounts.sign_up("bob@example.com", PASSWORD, name="Bob")
    response = (await api.sign_in("bob@example.com")).json()
    assert response["user"]["id"] == str(made.account.id)
    assert response["user"]["role"] == "authenticated"
    columns = "confirmation_token, recovery_token, email_change_token_new, phone_change_token"
    assert set(api.rows(f"SELECT {columns} FROM auth.users")) == {("", "", "", "")}
    # With the same key, a session that one began is continued by the other.
    service = AuthApp(load_auth_settings(), database, KeyRing([key]), Inbox())
    transport = httpx.ASGITransport(service)
    assert signed_in.tokens is not None
    body = {"refresh_token": signed_in.tokens.refresh_token}
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        continued = await client.post("/token?grant_type=refresh_token", json=body)
    assert continued.status_code == 200, continued.text
    await accounts.refresh(continued.json()["refresh_token"])
    await service.close()
    await backend.close()


HOSTILE = [
    "",
    " ",
    "x" * 300,
    "💣" * 300,
    "' OR 1=1 --",
    "ann@example.com",
    "$2b$99$" + "x" * 53,
    -1,
    1e308,
    True,
    [],
    ["x"] * 100,
    {"a": {"b": [None, 1e300, "\\u0000"]}},
]
FIELDS = {
    name
    for module in (admin, admin_links, mfa, otp, recover, resend, sign_up, token, user, verify)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Body)
    for name in kind.model_fields
}


@pytest.mark.parametrize(("method", "path"), [call[:2] for call in ENDPOINTS])
async def test_nothing_that_is_sent_makes_it_fail(api: Api, method: str, path: str) -> None:
    signed_in = await api.sign_up()
    assert "refresh_token" in FIELDS
    is_users = path.startswith(("/user", "/factors", "/logout", "/reauthenticate"))
    token = signed_in["access_token"] if is_users else SERVICE
    query = "?grant_type=password&type=x&token=%00&page=1&redirect_to=%ff"
    bodies: list[dict[str, Any]] = [dict.fromkeys(FIELDS, value) for value in HOSTILE]
    bodies += [{name: "%00 ' \\"} for name in FIELDS]
    for body in bodies if method in ("POST", "PUT") else bodies[:1]:
        place = path.replace("{id}", signed_in["user"]["id"]).replace("{factor_id}", "x")
        response = await api.call(method, place + query, body, token=token)
        assert response.status_code < 500, (body, response.text)
    for id in ("%00", "%ff", "x" * 500):
        place = path.replace("{id}", id).replace("{factor_id}", id)
        response = await api.call(method, place + query, {}, token=token)
        assert response.status_code < 500, (id, response.text)


async def test_what_had_a_success_response_is_committed(api: Api) -> None:
    """Whoever acts on an answer at once, over another connection, finds what it says."""
    for number in range(5):
        made = (await api.sign_up(f"user{number}@example.com"))["user"]
        with psycopg.connect(api.database) as connection:
            query = "SELECT 1 FROM auth.users WHERE id = %s"
            assert connection.execute(query, (made["id"],)).fetchone()


async def test_many_at_once_neither_fail_nor_wait_for_one_another(api: Api) -> None:
    await api.create()
    session = (await api.sign_in()).json()
    calls = [api.get("/user", token=session["access_token"]) for _ in range(60)]
    calls += [api.get("/admin/users", token=SERVICE) for _ in range(20)]
    assert {each.status_code for each in await asyncio.gather(*calls)} == {200}


async def test_who_verifies_tokens_finds_the_keys_by_their_issuer(api: Api) -> None:
    issuer = api.tokens.verify((await api.sign_up())["access_token"])["iss"]
    response = await api.get("/.well-known/openid-configuration")
    assert response.headers["cache-control"] == "public, max-age=600"
    described = response.json()
    assert described["issuer"] == issuer
    assert described["jwks_uri"] == f"{issuer}/.well-known/jwks.json"
    assert described["response_types_supported"] == ["code"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/sso"), ("GET", "/sso/saml/metadata"), ("POST", "/sso/saml/acs")],
)
async def test_sign_in_by_saml_is_disabled(api: Api, method: str, path: str) -> None:
    assert rejection(await api.call(method, path, {})) == (404, "saml_provider_disabled")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GOTRUE_SITE_URL", "example", "GOTRUE_SITE_URL: must be a whole URL"),
        ("GOTRUE_JWT_EXP", "soon", "GOTRUE_JWT_EXP: should be a valid integer"),
        ("GOTRUE_SMTP_MAX_FREQUENCY", "often", "GOTRUE_SMTP_MAX_FREQUENCY: must be a duration"),
        ("GOTRUE_URI_ALLOW_LIST", "https://[z-a].com", "is no pattern of URLs"),
    ],
)
def test_a_wrong_setting_is_one_readable_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load_auth_settings()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_settings_are_read_by_the_names_of_self_hosters(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "API_EXTERNAL_URL": "https://api.example.com",
        "GOTRUE_SITE_URL": "https://example.com",
        "GOTRUE_MAILER_URLPATHS_CONFIRMATION": "/auth/v1/verify",
        "GOTRUE_URI_ALLOW_LIST": "https://a.example.com, https://b.example.com/**",
        "GOTRUE_SMTP_HOST": "mail.example.com",
        "GOTRUE_SMTP_PORT": "465",
        "GOTRUE_SMTP_USER": "me@example.com",
        "GOTRUE_SMTP_PASS": "p/w",
        "GOTRUE_SMTP_ADMIN_EMAIL": "hello@example.com",
        "GOTRUE_SMTP_SENDER_NAME": "Example",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_auth_settings()
    assert settings.issuer == "https://api.example.com/auth/v1"
    path = settings.mailer_urlpaths_confirmation
    assert settings.verify_url(path) == "https://api.example.com/auth/v1/verify"
    assert settings.uri_allow_list == ("https://a.example.com", "https://b.example.com/**")
    assert settings.smtp_url == "smtps://me%40example.com:p%2Fw@mail.example.com:465"
    assert settings.sender == "Example <hello@example.com>"


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("24h", 86400), ("1m30s", 90), ("500ms", 0.5), (".5s", 0.5)]
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "24", "-1h", "1d", "1h 2m", "h", "99999999h", "1e3s"])
def test_what_is_no_duration_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


async def test_what_is_not_there_is_said_before_what_is_wrong_with_the_body(api: Api) -> None:
    user = (await api.create())["id"]
    unknown = "00000000-0000-4000-8000-000000000000"
    factor = f"/admin/users/{user}/factors/{unknown}"
    for method, path, status, code in (
        ("PUT", f"/admin/users/{unknown}", 404, "user_not_found"),
        ("PUT", f"/admin/users/{user}", 400, "bad_json"),
        ("DELETE", f"/admin/users/{unknown}", 404, "user_not_found"),
        ("PUT", factor, 404, "mfa_factor_not_found"),
    ):
        response = await api.call(method, path, body=[1], token=SERVICE)
        assert rejection(response) == (status, code), path
    short = await api.put(f"/admin/users/{unknown}", {"password": "x"}, token=SERVICE)
    assert rejection(short) == (404, "user_not_found")
    token = (await api.sign_in()).json()["access_token"]
    verify = f"/factors/{unknown}/verify"
    assert rejection(await api.call("POST", verify, body=[1], token=token)) == (
        404,
        "mfa_factor_not_found",
    )
    await api.post("/logout", token=token)
    for method, path in (("PUT", "/user"), ("POST", "/factors"), ("POST", verify)):
        response = await api.call(method, path, body=[1], token=token)
        assert rejection(response) == (403, "session_not_found"), path
