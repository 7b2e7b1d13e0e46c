"""Requests to third parties: bounded in time and size, and never redirected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 10
MAX_RESPONSE_BYTES = 1024 * 1024


class ProviderError(Exception):
    """Raised where a third party cannot be reached, or does not respond as it should."""


class CodeRejected(ProviderError):
    """Raised for a code for which a third party issues no tokens."""


def client() -> httpx.AsyncClient:
    """Return a client, to be closed by the caller."""
    import httpx

    from amphibase.accounts.oauth.limited_transport import LimitedTransport

    return httpx.AsyncClient(
        timeout=TIMEOUT_SECONDS,
        follow_redirects=False,
        headers={"accept": "application/json", "accept-encoding": "identity"},
        transport=LimitedTransport(MAX_RESPONSE_BYTES),
    )


async def get_json(url: str, *, token: str | None = None) -> Any:
    """Fetch JSON.

    Args:
        token: sent as the bearer's.

    Raises:
        ProviderError: says which URL, and nothing of the token.
    """
    import httpx

    from amphibase.accounts.oauth.limited_transport import ResponseTooLarge

    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        async with client() as http:
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
