"""Requests to third parties: bounded in time and size, and never redirected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 10
MAX_RESPONSE_BYTES = 1024 * 1024


RequestCheck: TypeAlias = Callable[["httpx.Request"], Awaitable[None]]
"""Raises for a request that may not be sent."""


class ProviderError(Exception):
    """Raised where a third party cannot be reached, or does not respond as it should."""


class CodeRejected(ProviderError):
    """Raised for a code for which a third party issues no tokens."""


def client(check: RequestCheck | None = None) -> httpx.AsyncClient:
    """Return a client, to be closed by the caller.

    Args:
        check: of each request.
    """
    import httpx

    from amphibase.accounts.oauth.limited_transport import LimitedTransport

    return httpx.AsyncClient(
        timeout=TIMEOUT_SECONDS,
        follow_redirects=False,
        headers={"accept": "application/json", "accept-encoding": "identity"},
        transport=LimitedTransport(MAX_RESPONSE_BYTES),
        event_hooks={"request": [check] if check else []},
    )


async def get_json(url: str, *, token: str | None = None, check: RequestCheck | None = None) -> Any:
    """Fetch JSON.

    Args:
        token: sent as the bearer's.
        check: of the request; what it raises is not caught.

    Raises:
        ProviderError: says which URL, and nothing of the token.
    """
    import httpx

    from amphibase.accounts.oauth.limited_transport import ResponseTooLarge

    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        async with client(check) as http:
            response = await http.get(url, headers=headers)
        if response.status_code != 200:
            raise ProviderError(f"{url} responds with {response.status_code}")
        return response.json()
    except ResponseTooLarge as error:
        raise ProviderError(f"{url} {error}") from error
    except httpx.HTTPError as error:
        raise ProviderError(f"{url} cannot be reached: {type(error).__name__}") from error
    except ValueError as error:
        raise ProviderError(f"{url} sends no JSON") from error
