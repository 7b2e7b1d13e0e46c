"""The connection to a Supabase project: one pool of connections, and for each call an identity."""

import json as json_codec
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

import httpx

from amphibase.accounts.jwt.claimed_caller import AUDIENCE
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.backend import Caller
from amphibase.errors import Unauthenticated
from amphibase.models import utc_now
from amphibase.supabase.errors import raise_for_response, translate_transport_error
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.retry import RetryingClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supabase import AsyncClient

Service = Literal["rest", "auth", "storage", "realtime"]
Params = Mapping[str, str] | Sequence[tuple[str, str]]
Content = bytes | AsyncIterable[bytes]

TIMEOUT = httpx.Timeout(30, connect=5, pool=10)
"""In seconds; of a body, 30 for each piece of it."""

LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30)
"""With HTTP/2 one connection serves about a hundred requests at a time."""

SIGNED_LIFETIME = timedelta(minutes=5)


class SupabaseClient:
    """Sends requests to a project, each as the caller that it is for.

    No identity is kept between two calls: a request's headers are made for it from its `Caller`,
    and nothing is stored, refreshed in the background or set as a default of the pool. The official
    client keeps the session of the last sign-in and sends it with the next call
    (supabase-py #762, #828).

    `request` goes under the builders of the official client, over the same httpx session that they
    would use: their errors have lost `Retry-After` and the status behind a 502, user-level calls of
    their Auth client need a stored session, and their JSON has lost the digits of a big number. Who
    wants the official client has it from `official`.

    Args:
        http: another httpx client, in tests.
    """

    def __init__(self, project: SupabaseProject, http: httpx.AsyncClient | None = None) -> None:
        self.project = project
        self._http = http or RetryingClient(
            http2=True, timeout=TIMEOUT, limits=LIMITS, cookies=NoCookies()
        )
        secret = project.jwt_secret
        self._signing = KeyRing([Key.from_secret(secret)]) if secret else None

    def url(self, service: Service, path: str) -> str:
        """Return the URL of a path below one of the services.

        Args:
            path: begins with a slash; quoted already.
        """
        return f"{self.project.url}/{service}/v1{path}"

    def headers(self, caller: Caller) -> dict[str, str]:
        """Return the headers that identify a caller.

        The service and anonymous callers are identified by the API keys, a user by their token. A
        user without one, such as in a job, gets a token of five minutes, if the project's
        `SUPABASE_JWT_SECRET` is known.

        Raises:
            Unauthenticated: the caller is a user without a token, and none can be issued.
        """
        if caller.role == "service_role":
            return self.project.service_key.headers
        if caller.role == "anon":
            return self.project.anon_key.headers
        token = caller.token or self._issue(caller)
        return {"apikey": self.project.anon_key.value, "Authorization": f"Bearer {token}"}

    async def request(
        self,
        service: Service,
        method: str,
        path: str,
        caller: Caller,
        *,
        params: Params = (),
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: Content | None = None,
        idempotent: bool = False,
    ) -> httpx.Response:
        """Send a request as a caller and read the whole response.

        Args:
            path: below the service, beginning with a slash; quoted already.
            params: of the query string; a name may come several times in a sequence of pairs.
            headers: beside those of the identity.
            json: a body, instead of `content`.
            content: a body as it is sent; a stream is sent once, whatever happens.
            idempotent: whether the request may be repeated although its method is none of GET,
                HEAD and OPTIONS, which always are.

        Returns:
            A response of a status below 400.

        Raises:
            AmphibaseError: what the service's error means (`supabase/errors.py`).
            Unavailable: the project cannot be reached, or took too long.
        """
        request = self._build(service, method, path, caller, params, headers, json, content)
        request.extensions["idempotent"] = idempotent
        with translated_transport_errors():
            response = await self._http.send(request)
        raise_for_response(service, response, caller)
        return response

    @asynccontextmanager
    async def stream(
        self,
        service: Service,
        method: str,
        path: str,
        caller: Caller,
        *,
        params: Params = (),
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request as a caller; its body is read inside the block, piece by piece.

        Raises:
            AmphibaseError, Unavailable: as `request`; also where the body ends early.
        """
        request = self._build(service, method, path, caller, params, headers)
        with translated_transport_errors():
            response = await self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    await response.aread()
                    raise_for_response(service, response, caller)
                yield response
            finally:
                await response.aclose()

    def official(self, caller: Caller) -> "AsyncClient":
        """Return the official client with the identity of a caller, over the same connections.

        Each call makes a new one: what is done with it, such as signing in, stays with it.
        """
        from supabase import AsyncClient, AsyncClientOptions

        headers = self.headers(caller)
        key = self.project.service_key if caller.role == "service_role" else self.project.anon_key
        options = AsyncClientOptions(
            headers={"Authorization": headers.get("Authorization", f"Bearer {key.value}")},
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,
            httpx_client=self._http,
        )
        return AsyncClient(self.project.url, key.value, options)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _build(
        self,
        service: Service,
        method: str,
        path: str,
        caller: Caller,
        params: Params,
        headers: Mapping[str, str] | None,
        json: Any = None,
        content: Content | None = None,
    ) -> httpx.Request:
        all_headers = {**self.headers(caller), **(headers or {})}
        if json is not None:
            # Escaped to ASCII, so that half of a surrogate pair can be sent.
            content = json_codec.dumps(json).encode()
            all_headers.setdefault("Content-Type", "application/json")
        # With the query string already in it, httpx reads the URL once instead of twice.
        query = f"?{urlencode(params, quote_via=quote)}" if params else ""
        url = self.url(service, path) + query
        return self._http.build_request(method, url, headers=all_headers, content=content)

    def _issue(self, caller: Caller) -> str:
        if self._signing is None or caller.user_id is None:
            raise Unauthenticated(
                "This caller has no access token: pass one in `Caller.token`, or set "
                "SUPABASE_JWT_SECRET, so that tokens can be issued for callers of jobs"
            )
        now = utc_now()
        return self._signing.issue(
            {
                **caller.claims,
                "sub": str(caller.user_id),
                "aud": AUDIENCE,
                "role": "authenticated",
                "iat": int(now.timestamp()),
                "exp": int((now + SIGNED_LIFETIME).timestamp()),
            }
        )


class NoCookies(CookieJar):
    """A jar that keeps none: a proxy's cookie for one caller is no other's."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Leave those of a response alone, without even reading them."""


@contextmanager
def translated_transport_errors() -> "Iterator[None]":
    """Raise what httpx raises inside the block as Unavailable."""
    try:
        yield
    except httpx.HTTPError as error:
        raise translate_transport_error(error) from error
