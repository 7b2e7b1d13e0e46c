"""A third party that signs users in: OpenID Connect, and the shapes that others have instead."""

import asyncio
import base64
import hashlib
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from amphibase.server import server

CLIENT = "the-client"
SECRET = "the secret of the client"
ANN = {
    "sub": "ann-there",
    "email": "Ann@example.com",
    "email_verified": True,
    "name": "Ann",
    "picture": "https://example.com/ann.png",
}
APP = "https://app.example/back"


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)  # which takes long


class ThirdParty:
    """The provider; whoever is sent there signs in as `user`.

    Attributes:
        url: where it is.
        issuer: what its configuration names.
        algorithm: by which it signs ID tokens.
        user: the claims of who signs in.
        pages: what its API says, by path.
        metadata: changes to what it says of itself.
        response: changes to what browsers bring back from it.
        token: changes to the response of its token endpoint.
        requests: the queries that browsers came with.
        paths: of all requests.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.issuer = url
        self.algorithm = "RS256"
        self.key = _key()
        self.user: dict[str, Any] = {}
        self.pages: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.response: dict[str, str] = {}
        self.token: dict[str, Any] = {}
        self.requests: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._access_token = secrets.token_urlsafe(16)
        routes = Starlette(
            routes=[
                Route("/{path:path}openid-configuration", self._configuration),
                Route("/jwks", self._jwks),
                Route("/{path:path}authorize", self._authorize),
                Route("/{path:path}token", self._exchange, methods=["POST"]),
                Route("/{path:path}access_token", self._exchange, methods=["POST"]),
                Route("/{path:path}", self._page),
            ]
        )

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.paths.append(scope["path"])
            await routes(scope, receive, send)

        self.app = app

    def id_token(self, **changes: Any) -> str:
        """An ID token of the user's."""
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": int(time.time()),
            "exp": int(time.time()) + 600,
            **self.user,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key, self.algorithm, headers={"kid": "one"})

    async def _configuration(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                **self.metadata,
            }
        )

    async def _jwks(self, request: Request) -> Response:
        jwk = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        # As Keycloak publishes them: one key for signatures, one for encryption.
        signs = {**jwk, "kid": "one", "use": "sig", "alg": self.algorithm}
        encrypts = {**jwk, "kid": "two", "use": "enc", "alg": "RSA-OAEP"}
        return JSONResponse({"keys": [encrypts, signs]})

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        assert (query["client_id"], query["response_type"]) == (CLIENT, "code")
        self.requests.append(query)
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        fields = {"code": code, "state": query["state"], **self.response}
        if query.get("response_mode") == "form_post":  # whose page posts the form
            return JSONResponse(fields)
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode(fields)}", 302)

    async def _exchange(self, request: Request) -> Response:
        async with request.form() as form:
            query = self._codes.pop(str(form["code"]), None)
            verifier = str(form.get("code_verifier", ""))
            client = (form["client_id"], form["client_secret"])
            redirect_uri = form["redirect_uri"]
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() if verifier else None
        if (
            query is None
            or client != (CLIENT, SECRET)
            or (query["redirect_uri"], query.get("code_challenge")) != (redirect_uri, challenge)
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        response: dict[str, Any] = {
            "access_token": self._access_token,
            "refresh_token": "to refresh",
            "token_type": "Bearer",
        }
        if "nonce" in query:
            response["id_token"] = self.id_token(nonce=query["nonce"])
        return JSONResponse({**response, **self.token})

    async def _page(self, request: Request) -> Response:
        path = request.path_params["path"]
        if request.headers.get("authorization") != f"Bearer {self._access_token}":
            return JSONResponse({}, 401)
        return JSONResponse(self.pages[path])


@asynccontextmanager
async def open_third_party() -> AsyncIterator[ThirdParty]:
    """A third party, where Ann signs in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = ThirdParty(f"http://127.0.0.1:{listener.getsockname()[1]}")
        provider.user = dict(ANN)
        async with serving(provider.app, listener):
            yield provider


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve an application on a socket, for the block."""
    served = server(app, handles_signals=False, lifespan="off")
    task = asyncio.create_task(served.serve(sockets=[listener]))
    try:
        yield
    finally:
        served.should_exit = True
        await task


def registered(provider: ThirdParty, name: str = "keycloak", **more: Any) -> dict[str, Any]:
    """The settings with which a third party is enabled."""
    return {
        f"external_{name}_enabled": True,
        f"external_{name}_client_id": CLIENT,
        f"external_{name}_secret": SECRET,
        f"external_{name}_url": f"{provider.url}/tenant" if name == "azure" else provider.url,
        "uri_allow_list": APP,
        **more,
    }


async def browse(url: str) -> str:
    """Sign in at the third party; the URL that it leads back to."""
    async with httpx.AsyncClient() as browser:
        response = await browser.get(url)
    assert response.status_code == 302, response.text
    return response.headers["location"]
