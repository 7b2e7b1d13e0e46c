"""/auth over HTTP, on every backend."""

import asyncio
import secrets
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from tests.backends import sql_backend_of
from tests.outbox import messages, token_in

from amphibase import Settings, Unavailable, load_settings
from amphibase.http.dependencies import device_of
from amphibase.http.limits import RateLimiter
from amphibase.sql.records.repository import SqlRepository
from amphibase.testing.client import Client

ANN = {"email": "ann@example.com", "password": "correct horse battery", "name": "Ann"}
CREDENTIALS = {"email": ANN["email"], "password": ANN["password"]}
USER_FIELDS = {"id", "email", "name", "is_active", "created_at", "updated_at"}
TOKEN_FIELDS = {"access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"}


def bearer(response: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


async def test_a_visitor_becomes_a_user_and_leaves_again(client: Client) -> None:
    signed_up = await client.post("/auth/sign-up", json=ANN)
    assert signed_up.status_code == 201
    assert signed_up.json().keys() == TOKEN_FIELDS
    assert signed_up.json()["user"].keys() == USER_FIELDS
    assert signed_up.headers["cache-control"] == "no-store"
    signed_in = await client.post("/auth/sign-in", json=CREDENTIALS)
    assert signed_in.status_code == 200
    assert signed_in.json().keys() == TOKEN_FIELDS
    me = await client.get("/users/me", headers=bearer(signed_in))
    assert me.json() == signed_in.json()["user"] == signed_up.json()["user"]
    assert me.json()["name"] == "Ann"
    refresh_token = signed_in.json()["refresh_token"]
    refreshed = await client.post("/auth/refresh", json={"refresh_token": refresh_token})
    assert refreshed.status_code == 200
    assert refreshed.json().keys() == TOKEN_FIELDS
    signed_out = await client.post("/auth/sign-out", headers=bearer(refreshed))
    assert (signed_out.status_code, signed_out.content) == (204, b"")
    for token in (refresh_token, refreshed.json()["refresh_token"]):
        rejected = await client.post("/auth/refresh", json={"refresh_token": token})
        assert (rejected.status_code, rejected.json()["code"]) == (401, "invalid_refresh_token")
    rejected = await client.get("/users/me", headers=bearer(refreshed))
    assert (rejected.status_code, rejected.json()["code"]) == (401, "session_ended")
    assert (await client.get("/users/me", headers=bearer(signed_up))).status_code == 200


async def test_of_twenty_simultaneous_sign_ups_one_is_taken(client: Client) -> None:
    responses = await asyncio.gather(*(client.post("/auth/sign-up", json=ANN) for _ in range(20)))
    assert sorted(response.status_code for response in responses) == [201] + [400] * 19
    rejected = next(response for response in responses if response.status_code == 400).json()
    assert rejected["code"] == "email_already_registered"
    assert rejected["detail"] == "Email already registered"


async def test_a_sign_up_without_a_profile_leaves_no_account(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the profile cannot be made, the account is undone, so that another try succeeds."""

    async def full(*_: Any, **__: Any) -> None:
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(SqlRepository, "upsert", full)
        assert (await client.post("/auth/sign-up", json=ANN)).status_code == 503
    assert (await client.post("/auth/sign-up", json=ANN)).status_code == 201


async def test_twenty_simultaneous_refreshes_leave_one_living_session(client: Client) -> None:
    signed_up = await client.post("/auth/sign-up", json=ANN)
    body = {"refresh_token": signed_up.json()["refresh_token"]}
    responses = await asyncio.gather(*(client.post("/auth/refresh", json=body) for _ in range(20)))
    assert {response.status_code for response in responses} == {200}
    sessions = await client.get("/auth/sessions", headers=bearer(responses[0]))
    assert len(sessions.json()["items"]) == 1


async def test_the_authorize_button_of_the_docs_can_sign_in(client: Client) -> None:
    await client.post("/auth/sign-up", json=ANN)
    form = {"grant_type": "password", "username": ANN["email"], "password": ANN["password"]}
    response = await client.post("/auth/token", data=form)
    assert response.json()["token_type"] == "bearer"
    assert (await client.get("/users/me", headers=bearer(response))).status_code == 200


@pytest.mark.parametrize(
    "wrong", [{"username": "no address"}, {"username": "a\x00@example.com"}, {"password": "\x00"}]
)
async def test_a_form_that_cannot_be_right_gets_the_response_of_a_wrong_one(
    client: Client, wrong: dict[str, str]
) -> None:
    """The form of OAuth2 is checked like the body of /auth/sign-in, and rejected like it."""
    form = {"grant_type": "password", "username": ANN["email"], "password": "x"} | wrong
    response = await client.post("/auth/token", data=form)
    assert (response.status_code, response.json()["code"]) == (401, "invalid_credentials")


@pytest.mark.parametrize(
    "wrong",
    [CREDENTIALS | {"password": "not the password"}, CREDENTIALS | {"email": "bob@example.com"}],
)
async def test_wrong_credentials_get_the_same_response(client: Client, wrong: Any) -> None:
    await client.post("/auth/sign-up", json=ANN)
    response = await client.post("/auth/sign-in", json=wrong)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    problem = response.json()
    problem.pop("request_id")
    assert problem == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Incorrect email or password",
        "code": "invalid_credentials",
    }


async def test_sessions_are_listed_and_can_be_ended(client: Client) -> None:
    await client.post("/auth/sign-up", json=ANN, headers={"User-Agent": "phone"})
    signed_in = await client.post(
        "/auth/sign-in", json=CREDENTIALS, headers={"User-Agent": "laptop"}
    )
    listed = (await client.get("/auth/sessions", headers=bearer(signed_in))).json()
    assert listed["next_cursor"] is None
    assert [(item["user_agent"], item["current"]) for item in listed["items"]] == [
        ("laptop", True),
        ("phone", False),
    ]
    phone = listed["items"][1]["id"]
    for expected in (204, 404):
        ended = await client.delete(f"/auth/sessions/{phone}", headers=bearer(signed_in))
        assert ended.status_code == expected


async def test_a_password_can_be_changed(client: Client) -> None:
    ann = await client.as_user("ann@example.com")
    wrong = {"current_password": "not it", "new_password": "a new password"}
    assert (await ann.post("/auth/password/change", json=wrong)).status_code == 401
    from amphibase.testing.client import PASSWORD

    right = {"current_password": PASSWORD, "new_password": "a new password"}
    assert (await ann.post("/auth/password/change", json=right)).status_code == 204
    body = {"email": "ann@example.com", "password": "a new password"}
    assert (await client.post("/auth/sign-in", json=body)).status_code == 200


async def test_a_forgotten_password_can_be_reset(
    app: FastAPI, client: Client, settings: Settings
) -> None:
    await client.post("/auth/sign-up", json=ANN)
    known = await client.post("/auth/password/forgot", json={"email": "Ann@example.com"})
    unknown = await client.post("/auth/password/forgot", json={"email": "bob@example.com"})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    await sql_backend_of(app).background.settle()
    (message,) = messages(settings.data_dir)
    assert message["To"] == "ann@example.com"
    body = {"token": token_in(message), "password": "a new password"}
    assert (await client.post("/auth/password/reset", json=body)).status_code == 204
    again = await client.post("/auth/password/reset", json=body)
    assert (again.status_code, again.json()["code"]) == (400, "invalid_or_expired_token")
    signed_in = await client.post(
        "/auth/sign-in", json=CREDENTIALS | {"password": body["password"]}
    )
    assert signed_in.status_code == 200


class TestConfirmation:
    @pytest.fixture
    def settings(self, make_settings):  # type: ignore[no-untyped-def]
        return make_settings(email_confirmation="required")

    async def test_gives_tokens_only_afterwards(
        self, app: FastAPI, client: Client, settings: Settings
    ) -> None:
        signed_up = await client.post("/auth/sign-up", json=ANN)
        assert signed_up.status_code == 201
        assert signed_up.json().keys() == {"user"}
        early = await client.post("/auth/sign-in", json=CREDENTIALS)
        assert (early.status_code, early.json()["code"]) == (403, "email_not_confirmed")
        await sql_backend_of(app).background.settle()
        token = token_in(messages(settings.data_dir)[0])
        verified = await client.post("/auth/email/verify", json={"token": token})
        assert verified.json()["user"]["email"] == ANN["email"]
        assert verified.json()["password_required"] is False
        signed_in = await client.post("/auth/sign-in", json=CREDENTIALS)
        assert signed_in.json()["user"]["name"] == "Ann"

    async def test_a_taken_address_cannot_be_told_from_a_new_one(self, client: Client) -> None:
        await client.as_user("ann@example.com")
        taken = await client.post("/auth/sign-up", json=ANN)
        new = await client.post("/auth/sign-up", json=ANN | {"email": "new@example.com"})
        assert taken.status_code == new.status_code == 201
        assert taken.json().keys() == new.json().keys()
        assert taken.json()["user"].keys() == new.json()["user"].keys()
        assert taken.json()["user"]["name"] == new.json()["user"]["name"]

    async def test_can_be_requested_again(self, client: Client) -> None:
        for email in ("ann@example.com", "nobody@example.com"):
            response = await client.post("/auth/email/resend", json={"email": email})
            assert response.status_code == 202


@pytest.mark.parametrize("path", ["/auth/email/verify", "/auth/password/reset"])
async def test_links_in_emails_lead_to_a_page_that_does_nothing_by_itself(
    client: Client, path: str
) -> None:
    page = await client.get(path, params={"token": "<script>alert(1)</script>"})
    assert page.status_code == 200
    assert "alert(1)" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


class TestRateLimits:
    @pytest.fixture
    def settings(self, make_settings):  # type: ignore[no-untyped-def]
        limits = "sign-in=2/minute, sign-in-client=4/minute, sign-in-address=5/minute"
        others = "sign-up=2/minute, forgot=2/minute, reset=2/minute, resend=2/minute"
        return make_settings(
            rate_limits=f"{limits}, {others}, email-address=3/minute",
            trusted_proxies="127.0.0.1",
        )

    @staticmethod
    async def post(client: httpx.AsyncClient, path: str, body: Any, ip: str = "192.0.2.1") -> Any:
        return await client.post(path, json=body, headers={"x-forwarded-for": ip})

    async def sign_in(
        self, client: httpx.AsyncClient, ip: str, email: str = "ann@example.com"
    ) -> int:
        body = CREDENTIALS | {"email": email}
        response = await self.post(client, "/auth/sign-in", body, ip)
        if response.status_code == 429:
            assert 1 <= int(response.headers["retry-after"]) <= 60
        return int(response.status_code)

    async def test_wrong_passwords_of_one_client_do_not_keep_the_owner_out(
        self, client: Client
    ) -> None:
        await self.post(client, "/auth/sign-up", ANN)
        for expected in (401, 401, 429, 429):
            wrong = CREDENTIALS | {"password": "a wrong password"}
            response = await self.post(client, "/auth/sign-in", wrong, "10.9.9.9")
            assert response.status_code == expected
        assert await self.sign_in(client, "10.9.9.9", "ANN@example.com") == 429
        assert await self.sign_in(client, "10.1.1.1") == 200

    async def test_a_client_tries_few_addresses(self, client: Client) -> None:
        statuses = [
            await self.sign_in(client, f"2001:db8::{n}", f"user{n}@example.com") for n in range(5)
        ]
        assert statuses == [401] * 4 + [429]
        assert await self.sign_in(client, "2001:db8:0:1::1") == 401

    async def test_an_address_is_tried_by_many_clients_and_not_without_end(
        self, client: Client
    ) -> None:
        statuses = [await self.sign_in(client, f"192.0.2.{n}") for n in range(6)]
        assert statuses == [401] * 5 + [429]

    async def test_a_header_of_another_user_names_no_client(
        self, app: FastAPI, client: Client
    ) -> None:
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as stranger:
            statuses = [await self.sign_in(stranger, f"192.0.2.{n}") for n in range(3)]
        assert statuses == [401, 401, 429]

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/auth/sign-up", dict(ANN)),
            ("/auth/password/forgot", {"email": ANN["email"]}),
            ("/auth/email/resend", {"email": ANN["email"]}),
            ("/auth/password/reset", {"token": "a guess", "password": "a new password"}),
        ],
    )
    async def test_each_other_action_has_a_limit_of_its_own_by_client(
        self, client: Client, path: str, body: dict[str, str]
    ) -> None:
        for n in range(2):
            for other in ("forgot", "reset"):
                if other not in path:
                    guess = {"email": f"{n}@example.com", "token": "t", "password": "a new one"}
                    names = ("email",) if other == "forgot" else ("token", "password")
                    sent = {name: guess[name] for name in names}
                    await self.post(client, f"/auth/password/{other}", sent)
        for n, limited in enumerate((False, False, True)):
            sent = body | ({"email": f"user{n}@example.com"} if "email" in body else {})
            response = await self.post(client, path, sent)
            assert (response.status_code == 429) is limited
        assert (await self.post(client, path, body, "192.0.2.2")).status_code != 429

    async def test_an_address_gets_few_emails_whether_or_not_it_has_an_account(
        self, client: Client
    ) -> None:
        statuses = [
            (await self.post(client, path, {"email": ANN["email"]}, f"192.0.2.{n}")).status_code
            for n, path in enumerate(["/auth/password/forgot", "/auth/email/resend"] * 2)
        ]
        assert statuses == [202, 202, 202, 429]


def test_workers_that_share_no_counts_are_warned_about_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("multiprocessing.parent_process", lambda: None)
    production = load_settings(environment="production", secret_key=secrets.token_hex(32))
    for settings, workers in (
        (production, ""),
        (production, "1"),
        (load_settings(), "4"),
        (production, "4"),
    ):
        assert not caplog.records
        monkeypatch.setenv("WEB_CONCURRENCY", workers)
        RateLimiter(settings)
    (warning,) = caplog.records
    assert "4 workers" in warning.getMessage()
    assert "RATE_LIMIT_URL" in warning.getMessage()


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("testclient", None),
        ("", None),
    ],
)
def test_a_device_has_an_ip_address_or_none(host: str, ip: str | None) -> None:
    """Only what is an IP address reaches the database's column of addresses."""
    request = Request({"type": "http", "headers": [], "client": (host, 1)})
    assert device_of(request).ip == ip
