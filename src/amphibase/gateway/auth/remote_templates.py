"""Templates of emails that are kept at a URL.

They are fetched before the first email that needs one, and again after ten minutes, in the
background; where that fails, the one that is there goes on, as in Supabase Auth (its
`internal/mailer/templatemailer/template.go`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from amphibase.background import Background
from amphibase.certificates import https_context
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.go_expression import TemplateError
from amphibase.gateway.auth.go_template import GoTemplate
from amphibase.gateway.auth.public_urls import check_request
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.auth")

MAX_AGE_SECONDS = 600
RETRY_SECONDS = 10
TIMEOUT_SECONDS = 10
FIRST_SECONDS = 2
"""How long the first emails wait for a template; a site that hangs delays no others."""

MAX_BYTES = 1_000_000


@dataclass(slots=True)
class _Entry:
    """What is known of one template: the last that was fetched, and when it is due again."""

    template: GoTemplate | None = None
    due_at: float = 0


class RemoteTemplates:
    """Templates at URLs.

    Args:
        urls: by the name of the template, such as `magic_link`.
        background: fetches them.
    """

    def __init__(self, urls: Mapping[str, str], background: Background) -> None:
        self._urls = urls
        self._background = background
        self._entries = {name: _Entry() for name in urls}
        self._is_fetching = False
        self._tried = asyncio.Event()

    def get(self, name: str) -> GoTemplate | None:
        """Return the template that was fetched; None where there is none."""
        entry = self._entries.get(name)
        return None if entry is None else entry.template

    async def refresh(self) -> None:
        """Begin to fetch what is due, and wait for the first time that this is done."""
        if not self._is_fetching and (due := self._due()):
            self._is_fetching = True
            self._background.run("Fetching templates of emails", self._fetch_all(due))
        if self._urls and not self._tried.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_SECONDS):
                    await self._tried.wait()
            self._tried.set()

    async def _fetch_all(self, names: Sequence[str]) -> None:
        try:
            await asyncio.gather(*map(self._fetch, names))
        finally:
            self._is_fetching = False
            self._tried.set()

    def _due(self) -> list[str]:
        now = monotonic()
        return [name for name, entry in self._entries.items() if entry.due_at <= now]

    async def _fetch(self, name: str) -> None:
        entry = self._entries[name]
        try:
            entry.template = GoTemplate(await _content(self._urls[name]))
            entry.due_at = monotonic() + MAX_AGE_SECONDS
        except (TemplateError, _NotFetched) as error:
            entry.due_at = monotonic() + RETRY_SECONDS
            logger.error("The template of the email %s at its URL cannot be used: %s", name, error)


class _NotFetched(Exception):
    """Raised where a URL has no template; says why, without the URL, which may hold a secret."""


async def _content(url: str) -> str:
    import httpx  # few projects have such templates

    host = httpx.URL(url).host

    async def check_redirect(request: httpx.Request) -> None:
        """Follow the site to other public sites alone: an email shows what it is led to."""
        if request.url.host != host:
            await check_request(request)

    content = bytearray()
    try:
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            httpx.AsyncClient(
                follow_redirects=True,
                verify=https_context(),
                event_hooks={"request": [check_redirect]},
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                raise _NotFetched(f"the status is {response.status_code}")
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise _NotFetched(f"it has over {MAX_BYTES} bytes")
        return content.decode()
    except AuthError as error:
        raise _NotFetched(f"it leads elsewhere: {error.message}") from None
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeDecodeError) as error:
        raise _NotFetched(type(error).__name__) from None
