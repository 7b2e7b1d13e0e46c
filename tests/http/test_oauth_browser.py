"""Sign-in through a third party over the application's own routes, in a real browser."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from tests.backends import SECRET as KEY
from tests.third_parties import CLIENT, SECRET, ThirdParty, serving

from amphibase import Amphibase, load_settings

if TYPE_CHECKING:
    from playwright.async_api import Page

PAGE = Path(__file__).parent / "oauth.html"


async def test_a_page_of_another_origin_signs_in(
    page: "Page", third_party: ThirdParty, sqlite_url: str, tmp_path: Path
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as api_listener,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        api, url = (
            f"http://127.0.0.1:{each.getsockname()[1]}" for each in (api_listener, listener)
        )
        settings = load_settings(
            database_url=sqlite_url,
            data_dir=tmp_path,
            secret_key=KEY,
            public_url=api,
            cors_origins=url,
            oauth_redirect_urls=f"{url}/",
            oauth_keycloak_client_id=CLIENT,
            oauth_keycloak_client_secret=SECRET,
            oauth_keycloak_url=third_party.url,
        )

        async def front_end(request: Request) -> Response:
            return HTMLResponse(PAGE.read_text().replace("API", api))

        app = Amphibase(settings).mount(FastAPI())
        async with (
            app.router.lifespan_context(app),
            serving(app, api_listener),
            serving(Starlette(routes=[Route("/", front_end)]), listener),
        ):
            await page.goto(url)
            await page.get_by_role("button").click()
            await page.get_by_text("ann@example.com").wait_for()
            assert await page.context.cookies() == []
