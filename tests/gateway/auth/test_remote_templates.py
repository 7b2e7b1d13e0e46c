"""Templates of emails at URLs, from a local site."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.gateway.auth.api import Api
from tests.gateway.auth.conftest import ServeAuth
from tests.third_parties import serving

from amphibase.errors import ConfigurationError
from amphibase.gateway.auth import remote_templates
from amphibase.gateway.auth.settings import load_auth_settings

BUILT_IN = "<p>Follow this link"


@dataclass
class Site:
    """Serves a template."""

    url: str = ""
    content: str = "<a href='{{ .ConfirmationURL }}'>Welcome</a>"
    status: int = 200
    requests: list[str] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def respond(self, request: Request) -> Response:
        self.requests.append(request.url.path)
        await self.released.wait()
        if request.url.path.startswith("/to/"):
            return RedirectResponse(request.query_params["url"])
        return PlainTextResponse(self.content, self.status)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site.released.set()
        site.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving(Starlette(routes=[Route("/{path:path}", site.respond)]), listener):
            yield site


async def html(api: Api, email: str) -> str:
    """The HTML of the email to a new user; what the inbox makes of plain text where it has none."""
    await api.sign_up(email=email)
    shown = (await api.mailpit("message/latest")).json()
    assert shown["To"][0]["Address"] == email
    return str(shown["HTML"]).strip()


async def test_a_template_at_a_url_is_fetched_once(serve: ServeAuth, site: Site) -> None:
    api = await serve(
        mailer_autoconfirm=False,
        site_url=site.url,
        mailer_templates_confirmation="/emails/confirm.html",
        mailer_template_confirmation="<p>Of the file</p>",
    )
    assert site.requests == []
    for email in ("ann@example.com", "bob@example.com"):
        assert (await html(api, email)).endswith(">Welcome</a>")
    assert site.requests == ["/emails/confirm.html"]


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (404, "Not found", "the status is 404"),
        (200, "x" * 1_000_001, "it has over 1000000 bytes"),
        (200, "{{ template }}", "template"),
    ],
)
async def test_a_template_that_cannot_be_used_leaves_the_built_in_text(
    serve: ServeAuth,
    site: Site,
    caplog: pytest.LogCaptureFixture,
    status: int,
    content: str,
    reason: str,
) -> None:
    site.status, site.content = status, content
    url = f"{site.url}/confirm.html?key=hush"
    api = await serve(mailer_autoconfirm=False, mailer_templates_confirmation=url)
    assert (await html(api, "ann@example.com")).startswith(BUILT_IN)
    assert "The template of the email confirmation at its URL cannot be used" in caplog.text
    assert reason in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/confirm.html", None),
        ("http://localhost:{port}/confirm.html", "URL must use HTTPS"),
        ("https://localhost:{port}/confirm.html", "URL cannot point to localhost"),
        ("https://169.254.169.254/", "URL cannot resolve to link-local addresses"),
    ],
)
async def test_a_template_leads_to_no_private_address(
    serve: ServeAuth, site: Site, caplog: pytest.LogCaptureFixture, place: str, reason: str | None
) -> None:
    place = place.format(port=site.url.rpartition(":")[2])
    url = f"{site.url}/to/?url={place}"
    api = await serve(mailer_autoconfirm=False, mailer_templates_confirmation=url)
    shown = await html(api, "ann@example.com")
    if reason is None:
        assert shown.endswith(">Welcome</a>")
    else:
        assert shown.startswith(BUILT_IN)
        assert f"it leads elsewhere: {reason}" in caplog.text
        assert site.requests == ["/to/"]


async def test_a_template_is_fetched_again_and_goes_on_where_that_fails(
    serve: ServeAuth, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_templates, "MAX_AGE_SECONDS", 0)
    monkeypatch.setattr(remote_templates, "RETRY_SECONDS", 0)
    url = f"{site.url}/confirm.html"
    api = await serve(mailer_autoconfirm=False, mailer_templates_confirmation=url)
    for number, (status, content, expected) in enumerate(
        [(500, "", BUILT_IN), (200, "<p>1</p>", "<p>1</p>"), (500, "", "<p>1</p>"), (200, "2", "2")]
    ):
        site.status, site.content = status, content
        asked = len(site.requests)
        for attempt in range(200):  # it is fetched in the background
            shown = await html(api, f"user{number}-{attempt}@example.com")
            if shown.startswith(expected) and len(site.requests) > asked + 1:
                break
            await asyncio.sleep(0.05)
        assert shown.startswith(expected)


async def test_a_site_that_hangs_delays_one_email_at_most_and_the_last_template_goes_on(
    serve: ServeAuth, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_templates, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(remote_templates, "MAX_AGE_SECONDS", 0)
    site.released.clear()
    url = f"{site.url}/confirm.html"
    api = await serve(mailer_autoconfirm=False, mailer_templates_confirmation=url)
    assert (await html(api, "ann@example.com")).startswith(BUILT_IN)
    monkeypatch.setattr(remote_templates, "FIRST_SECONDS", 3600)  # of which none is waited
    assert (await html(api, "bob@example.com")).startswith(BUILT_IN)
    site.released.set()
    for attempt in range(200):
        if (await html(api, f"user{attempt}@example.com")).endswith(">Welcome</a>"):
            break
        await asyncio.sleep(0.05)
    site.released.clear()
    assert (await html(api, "cas@example.com")).endswith(">Welcome</a>")
    assert (await html(api, "dot@example.com")).endswith(">Welcome</a>")
    site.released.set()


def test_what_is_no_url_of_a_template_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOTRUE_MAILER_TEMPLATES_INVITE", "emails/invite.html")
    with pytest.raises(ConfigurationError, match="GOTRUE_MAILER_TEMPLATES_INVITE: must be a URL"):
        load_auth_settings()
