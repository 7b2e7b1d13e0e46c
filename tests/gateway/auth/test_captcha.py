"""Captchas, before a local service that verifies them."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.gateway.auth.api import PASSWORD, SERVICE, rejection
from tests.gateway.auth.conftest import ServeAuth
from tests.third_parties import serving

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth import captcha
from amphibase.gateway.auth.settings import load_auth_settings

ON: dict[str, Any] = {
    "security_captcha_enabled": True,
    "security_captcha_provider": "turnstile",
    "security_captcha_secret": "the secret of the site",
}
ANN = {"email": "ann@example.com", "password": PASSWORD}


@dataclass
class Verifier:
    """The service that verifies tokens: those in `good`."""

    good: set[str] = field(default_factory=lambda: {"good"})
    forms: list[dict[str, str]] = field(default_factory=list)
    response: Response | None = None

    async def verify(self, request: Request) -> Response:
        async with request.form() as form:
            self.forms.append({name: str(value) for name, value in form.items()})
        is_good = self.forms[-1]["response"] in self.good
        errors = [] if is_good else ["invalid-input-response", "timeout-or-duplicate"]
        return self.response or JSONResponse({"success": is_good, "error-codes": errors})


@pytest.fixture
async def verifier(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Verifier]:
    verifier = Verifier()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/siteverify"
        monkeypatch.setitem(captcha.VERIFY_URLS, "turnstile", url)
        app = Starlette(routes=[Route("/siteverify", verifier.verify, methods=["POST"])])
        async with serving(app, listener):
            yield verifier


def with_token(body: dict[str, Any], token: str = "good") -> dict[str, Any]:
    return {**body, "gotrue_meta_security": {"captcha_token": token}}


async def test_a_request_needs_a_token_that_the_service_takes(
    serve: ServeAuth, verifier: Verifier
) -> None:
    api = await serve(**ON)
    missing = await api.post("/signup", ANN)
    assert rejection(missing) == (400, "captcha_failed")
    reason = "captcha protection: request disallowed (no captcha_token found)"
    assert missing.json()["message"] == reason
    assert verifier.forms == []
    wrong = await api.post("/signup", with_token(ANN, "bad"))
    assert rejection(wrong) == (400, "captcha_failed")
    assert wrong.json()["message"].endswith("(invalid-input-response, timeout-or-duplicate)")
    assert (await api.post("/signup", with_token(ANN))).status_code == 200
    assert verifier.forms[-1] == {
        "secret": ON["security_captcha_secret"],
        "response": "good",
        "remoteip": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/token?grant_type=password", ANN),
        ("/otp", {"email": "ann@example.com"}),
        ("/magiclink", {"email": "ann@example.com"}),
        ("/recover", {"email": "ann@example.com"}),
        ("/resend", {"type": "signup", "email": "ann@example.com"}),
        ("/signup", {}),
    ],
)
async def test_each_way_in_is_protected(
    serve: ServeAuth, verifier: Verifier, path: str, body: dict[str, Any]
) -> None:
    api = await serve(**ON, external_anonymous_users_enabled=True)
    await api.create()
    assert rejection(await api.post(path, body)) == (400, "captcha_failed")
    assert (await api.post(path, with_token(body))).status_code == 200


async def test_refreshing_and_administration_need_none(
    serve: ServeAuth, verifier: Verifier
) -> None:
    api = await serve(**ON)
    session = (await api.post("/signup", with_token(ANN))).json()
    assert (await api.refresh(session["refresh_token"])).status_code == 200
    bob = {"email": "bob@example.com", "password": PASSWORD}
    assert (await api.post("/signup", bob, token=SERVICE)).status_code == 200
    forged = SERVICE[:-3] + "abc"
    assert rejection(await api.post("/signup", bob, token=forged)) == (400, "captcha_failed")


@pytest.mark.parametrize(
    "response", [Response("none"), JSONResponse([]), JSONResponse({"success": True}, 500)]
)
async def test_where_the_service_does_not_say_nobody_gets_in(
    serve: ServeAuth, verifier: Verifier, response: Response
) -> None:
    api = await serve(**ON)
    verifier.response = response
    rejected = await api.post("/signup", with_token(ANN))
    assert rejection(rejected) == (500, "unexpected_failure")
    assert rejected.json()["message"] == "captcha verification process failed"


def test_a_captcha_without_its_secret_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="GOTRUE_SECURITY_CAPTCHA_SECRET: is missing"):
        load_auth_settings(security_captcha_enabled=True)
