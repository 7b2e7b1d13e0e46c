"""supabase-js in a real browser: to a third party's sign-in and back, as people go."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from tests.gateway.auth.api import ANON, SECRET, SERVICE
from tests.gateway.auth.conftest import ServeAuth
from tests.third_parties import ThirdParty, registered, serving

from amphibase.gateway.app import Gateway, Mount
from amphibase.gateway.keys import ApiKeys

if TYPE_CHECKING:
    from playwright.async_api import Page

PAGE = Path(__file__).parent / "page.html"
BUNDLE = "node_modules/@supabase/supabase-js/dist/umd/supabase.js"


@pytest.mark.parametrize("flow", ["pkce", "implicit"])
async def test_a_page_signs_in_through_a_third_party_and_stays_signed_in(
    serve: ServeAuth, third_party: ThirdParty, page: "Page", npm_packages: Path, flow: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        api = await serve(
            behind=lambda service: Gateway(
                {"/auth/v1": Mount(lambda: service)}, ApiKeys(SECRET, ANON, SERVICE)
            ),
            **registered(third_party, uri_allow_list=f"{url}/"),
        )
        html = PAGE.read_text()
        for name, value in {"'URL'": api.url, "'KEY'": ANON, "'FLOW'": flow}.items():
            html = html.replace(name, f"'{value}'")

        async def application(request: Request) -> Response:
            return HTMLResponse(html)

        async def bundle(request: Request) -> Response:
            return FileResponse(npm_packages / BUNDLE, media_type="text/javascript")

        routes = [Route("/", application), Route("/supabase.js", bundle)]
        async with serving(Starlette(routes=routes), listener):
            await page.goto(url)
            await page.get_by_role("button").click()
            await page.get_by_text("ann@example.com").wait_for()
            await page.get_by_text("keycloak").wait_for()
            assert len(third_party.requests) == 1
            # Neither the code nor the tokens stay in the address, and so in the history.
            assert page.url.rstrip("#") == f"{url}/"
            await page.reload()
            await page.get_by_text("ann@example.com").wait_for()
