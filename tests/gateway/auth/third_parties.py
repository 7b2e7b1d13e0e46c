"""Sign-in through third parties, as a browser does it in tests."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from tests.gateway.auth.api import Api
from tests.third_parties import APP, browse

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
PKCE = f"code_challenge={CHALLENGE.decode()}&code_challenge_method=s256"


async def sign_in(api: Api, query: str = "", name: str = "keycloak") -> httpx.Response:
    """Go the whole way in a browser; the response that leads back to the application."""
    begun = await api.get(f"/authorize?provider={name}&redirect_to={APP}&{query}")
    assert begun.status_code == 302, begun.text
    return await api.client.get(await browse(begun.headers["location"]))


def fragment(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 302, response.text
    assert response.headers["location"].startswith(APP)
    return {k: v[0] for k, v in parse_qs(urlsplit(response.headers["location"]).fragment).items()}


def query_of(response: httpx.Response) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(urlsplit(response.headers["location"]).query).items()}


async def user_of(api: Api, response: httpx.Response) -> dict[str, Any]:
    """The user of the session that a redirect hands over."""
    token = fragment(response)["access_token"]
    found: dict[str, Any] = (await api.get("/user", token=token)).json()
    return found
