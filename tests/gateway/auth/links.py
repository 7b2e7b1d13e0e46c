"""Links of emails: followed, and where they lead."""

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import httpx
from tests.gateway.auth.api import Api

SITE = "http://127.0.0.1:3000"


VERIFIER = "a-verifier-of-at-least-forty-three-characters-1234"


PKCE = {
    "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())
    .rstrip(b"=")
    .decode(),
    "code_challenge_method": "s256",
}


async def follow(api: Api, link: str) -> httpx.Response:
    response = await api.client.get(link)
    assert response.status_code == 303, response.text
    return response


def sent_to(response: httpx.Response) -> tuple[str, dict[str, str], dict[str, str]]:
    """The place, the query and the fragment that the reader was sent to."""
    parts = urlsplit(response.headers["location"])
    query, fragment = (
        {name: values[0] for name, values in parse_qs(part, keep_blank_values=True).items()}
        for part in (parts.query, parts.fragment)
    )
    place = response.headers["location"].partition("#")[0].partition("?")[0]
    return place, query, fragment


async def verify(api: Api, kind: str, code: str, email: str = "ann@example.com") -> httpx.Response:
    return await api.post("/verify", {"type": kind, "token": code, "email": email})
