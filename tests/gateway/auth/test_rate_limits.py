"""Limits on requests of one client, and on messages of the project (`GOTRUE_RATE_LIMIT_…`)."""

from typing import Any

import pytest
from starlette.requests import Request
from tests.gateway.auth.api import SERVICE, rejection
from tests.gateway.auth.conftest import ServeAuth

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth import rate_limits
from amphibase.gateway.auth.error_codes import EMAIL_QUOTA
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.rate_limit_settings import MessageRate, RateLimitSettings
from amphibase.gateway.auth.rate_limits import ClientRateLimiter, MessageQuota
from amphibase.gateway.auth.settings import load_auth_settings

OVER = (429, "over_request_rate_limit")
FACTOR = "/factors/7ba7b810-9dad-41d1-80b4-00c04fd430c8"


@pytest.mark.parametrize(
    ("setting", "endpoints"),
    [
        ("rate_limit_otp", ["POST /signup", "POST /otp", "POST /magiclink", "POST /recover"]),
        ("rate_limit_otp", ["POST /resend", "PUT /user"]),
        ("rate_limit_verify", ["POST /verify"]),
        ("rate_limit_verify", ["GET /verify"]),
        ("rate_limit_token_refresh", ["POST /token?grant_type=refresh_token"]),
        ("rate_limit_token_refresh", ["POST /token?grant_type=password"]),
        ("rate_limit_web3", ["POST /token?grant_type=web3"]),
        ("rate_limit_sso", ["POST /sso"]),
        ("mfa_rate_limit_challenge_and_verify", [f"POST {FACTOR}/verify"]),
        ("mfa_rate_limit_challenge_and_verify", [f"POST {FACTOR}/challenge"]),
    ],
)
async def test_a_client_has_thirty_requests_at_once_to_each_endpoint(
    serve: ServeAuth, setting: str, endpoints: list[str]
) -> None:
    api = await serve(**{setting: 0.001})
    for endpoint in endpoints:
        method, _, path = endpoint.partition(" ")
        body = {"email": "?"} if method != "GET" else None
        responses = [rejection(await api.call(method, path, body)) for _ in range(31)]
        assert [response == OVER for response in responses] == [False] * 30 + [True]


async def test_anonymous_users_are_limited_apart_from_other_sign_ups(serve: ServeAuth) -> None:
    api = await serve(rate_limit_anonymous_users=2, external_anonymous_users_enabled=True)
    responses = [await api.post("/signup", {}) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert rejection(responses[2]) == OVER
    await api.sign_up()


def _request(client: str, **headers: str) -> Request:
    encoded = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return Request({"type": "http", "client": (client, 1), "headers": encoded})


def _limiter(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> ClientRateLimiter:
    monkeypatch.setattr(rate_limits, "BURST", 1)
    return ClientRateLimiter(RateLimitSettings(rate_limit_verify=30, **settings))


def _is_allowed(limiter: ClientRateLimiter, request: Request) -> bool:
    try:
        limiter.check("verify", request)
    except AuthError:
        return False
    return True


@pytest.mark.parametrize(
    ("header", "first", "second", "is_same"),
    [
        ("", _request("192.0.2.1"), _request("192.0.2.1"), True),
        ("", _request("192.0.2.1"), _request("192.0.2.2"), False),
        ("", _request("2001:db8::1"), _request("2001:db8::2"), True),
        ("", _request("192.0.2.1", x_real_ip="a"), _request("192.0.2.1", x_real_ip="b"), True),
        ("X-Real-IP", _request("::1", x_real_ip="a"), _request("::1", x_real_ip="b"), False),
        ("X-Real-IP", _request("::1", x_real_ip="a"), _request("::2:0:0:0:1", x_real_ip="a"), True),
        ("X-Real-IP", _request("192.0.2.1"), _request("192.0.2.1"), True),
        (
            "X-Forwarded-For",
            _request("192.0.2.1", x_forwarded_for="a"),
            _request("192.0.2.1", x_forwarded_for="b"),
            True,
        ),
    ],
)
def test_clients_are_told_apart_by_address_or_by_the_header_of_a_proxy(
    header: str, first: Request, second: Request, is_same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = _limiter(monkeypatch, rate_limit_header=header)
    assert _is_allowed(limiter, first)
    assert _is_allowed(limiter, second) is not is_same


def test_a_bucket_is_refilled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 1000.0
    monkeypatch.setattr(rate_limits, "monotonic", lambda: seconds)
    limiter, request = _limiter(monkeypatch), _request("192.0.2.1")
    assert [_is_allowed(limiter, request) for _ in range(2)] == [True, False]
    seconds += 9
    assert not _is_allowed(limiter, request)
    seconds += 1  # 30 in 5 minutes are one in 10 seconds
    assert [_is_allowed(limiter, request) for _ in range(2)] == [True, False]
    seconds += 3600
    assert [_is_allowed(limiter, request) for _ in range(2)] == [True, False]


EMAILS_OVER = (429, "over_email_send_rate_limit")


async def test_a_project_sends_so_many_emails_in_an_hour(serve: ServeAuth) -> None:
    api = await serve(rate_limit_email_sent="2", mailer_autoconfirm=False)
    token = (await api.create(email_confirm=True)) and (await api.sign_in()).json()["access_token"]
    assert (await api.post("/otp", {"email": "ann@example.com"})).status_code == 200
    assert (await api.put("/user", {"email": "new@example.com"}, token=token)).status_code == 200
    rejected = [
        await api.post("/recover", {"email": "ann@example.com"}),
        await api.post("/recover", {"email": "nobody@example.com"}),
        await api.post("/magiclink", {"email": "bob@example.com"}),
        await api.post("/signup", {"email": "bob@example.com", "password": "a long password"}),
        await api.post("/resend", {"type": "signup", "email": "bob@example.com"}),
        await api.post("/invite", {"email": "bob@example.com"}, token=SERVICE),
        await api.put("/user", {"email": "newer@example.com"}, token=token),
        await api.get("/reauthenticate", token=token),
    ]
    assert {rejection(response) for response in rejected} == {EMAILS_OVER}
    assert {response.json()["message"] for response in rejected} == {"email rate limit exceeded"}
    assert len(api.inbox.emails()) == 3  # two of them about the new address
    assert api.rows("SELECT email, email_change FROM auth.users") == [
        ("ann@example.com", "new@example.com")
    ]


async def test_a_rate_with_a_duration_allows_one_more_after_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = 1000.0
    monkeypatch.setattr(rate_limits, "monotonic", lambda: seconds)
    quota = MessageQuota(MessageRate.parse("2/10m"), EMAIL_QUOTA)
    await quota.take()
    await quota.take()
    seconds += 599
    with pytest.raises(AuthError):
        await quota.take()
    seconds += 1
    await quota.take()
    with pytest.raises(AuthError):
        await quota.take()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_limit_email_sent", "many"),
        ("rate_limit_email_sent", "-1"),
        ("rate_limit_sms_sent", "3/soon"),
        ("rate_limit_otp", "0"),
        ("rate_limit_verify", "inf"),
    ],
)
def test_an_invalid_limit_stops_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"GOTRUE_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=f"GOTRUE_{name.upper()}"):
        load_auth_settings()
