"""Passwords that have leaked, before a local service that knows some."""

import hashlib
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.gateway.auth.api import PASSWORD, SERVICE, rejection
from tests.gateway.auth.conftest import ServeAuth
from tests.third_parties import serving

from amphibase.gateway.auth import pwned_passwords

LEAKED, PADDING = "a leaked password", "only padding"


def digest(password: str) -> str:
    return hashlib.sha1(password.encode()).hexdigest().upper()


@pytest.fixture
async def requests(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """What the service has been asked."""
    asked: list[str] = []

    async def respond(request: Request) -> Response:
        asked.append(request.path_params["prefix"])
        lines = [f"{digest(LEAKED)[5:]}:3", f"{digest(PADDING)[5:]}:0"]
        return PlainTextResponse("\r\n".join(lines))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr(pwned_passwords, "RANGE_URL", url)
        async with serving(Starlette(routes=[Route("/{prefix}", respond)]), listener):
            yield asked


async def test_a_new_password_has_not_leaked(serve: ServeAuth, requests: list[str]) -> None:
    api = await serve(password_hibp_enabled=True)
    rejected = await api.post("/signup", {"email": "ann@example.com", "password": LEAKED})
    assert rejection(rejected) == (422, "weak_password")
    assert rejected.json()["weak_password"] == {"reasons": ["pwned"]}
    assert requests == [digest(LEAKED)[:5]]
    ann = await api.sign_up(password=PADDING)
    change = await api.put("/user", {"password": LEAKED}, token=ann["access_token"])
    assert rejection(change) == (422, "weak_password")
    own = f"/admin/users/{ann['user']['id']}"
    by_admin = await api.put(own, {"password": LEAKED}, token=SERVICE)
    assert rejection(by_admin) == (422, "weak_password")


async def test_an_older_password_that_has_leaked_still_signs_in_and_is_reported(
    serve: ServeAuth, requests: list[str]
) -> None:
    api = await serve(password_hibp_enabled=True)
    await api.create(password=LEAKED)
    session = await api.sign_in(password=LEAKED)
    assert session.json()["weak_password"]["reasons"] == ["pwned"]


@pytest.mark.parametrize("fail_closed", [False, True])
async def test_where_nobody_knows_a_setting_decides(
    serve: ServeAuth, monkeypatch: pytest.MonkeyPatch, fail_closed: bool
) -> None:
    monkeypatch.setattr(pwned_passwords, "RANGE_URL", "http://127.0.0.1:9/range")
    api = await serve(password_hibp_enabled=True, password_hibp_fail_closed=fail_closed)
    response = await api.post("/signup", {"email": "ann@example.com", "password": PASSWORD})
    assert response.status_code == (500 if fail_closed else 200)
    await api.create("bob@example.com")
    assert (await api.sign_in("bob@example.com")).status_code == 200
