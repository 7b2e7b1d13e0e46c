"""Where people may be sent on to after they followed a link: an open redirect would hand their
session to the author of the link."""

import re
from collections.abc import Iterable
from functools import cache
from urllib.parse import urlsplit

from starlette.requests import Request

from amphibase.loopback import is_loopback

MAX_CHARACTERS = 2048

# Browsers take a backslash for a slash and drop tabs and line ends, so that the host is another
# than the one that a parser sees.
_UNSAFE = re.compile(r"[\\\s\x00-\x20\x7f]")


class Redirects:
    """Decides where links may lead: to the site and what else is allowed.

    Args:
        site_url: where people go by default; all of its host is allowed.
        allowed: patterns of URLs: `*` is anything but `.` and `/`, `**` anything at all, `?` one
            character but these two, `[…]` one of these.
    """

    def __init__(self, site_url: str, allowed: Iterable[str]) -> None:
        self._site_url = site_url
        self._site = urlsplit(site_url)
        self._allowed = [re.compile(glob_to_regex(pattern), re.DOTALL) for pattern in allowed]

    def of(self, request: Request, preferred: str = "") -> str:
        """Return the URL that the request names, if that is allowed; else where it comes
        from, if that is; else the site.

        Args:
            preferred: what the body says, which comes first.
        """
        candidates = (
            preferred,
            request.query_params.get("redirect_to", ""),
            request.headers.get("redirect_to", ""),
            request.headers.get("referer", ""),
        )
        return next((url for url in candidates if url and self.allows(url)), self._site_url)

    def allows(self, url: str) -> bool:
        """Return whether a redirect may lead there."""
        if len(url) > MAX_CHARACTERS or _UNSAFE.search(url):
            return False
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.username is not None or parts.scheme in ("", "javascript", "data", "vbscript"):
            return False
        # On one's own machine each application has its port.
        same_place = port == self._site.port or is_loopback(host)
        is_web = parts.scheme in ("http", "https", self._site.scheme)
        if is_web and host == self._site.hostname and same_place:
            return True
        bare = url.partition("#")[0]
        return any(pattern.fullmatch(bare) for pattern in self._allowed)


@cache
def glob_to_regex(pattern: str) -> str:
    """Return a pattern of allowed URLs as a regular expression."""
    written = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if pattern.startswith("**", position):
            written.append(".*")
            position += 1
        elif character == "*":
            written.append("[^./]*")
        elif character == "?":
            written.append("[^./]")
        elif character == "[" and (end := pattern.find("]", position + 2)) > 0:
            inside = pattern[position + 1 : end]
            negated = "^" if inside.startswith("!") else ""
            inside = re.escape(inside.removeprefix("!")).replace(r"\-", "-")
            written.append(f"[{negated}{inside}]")
            position = end
        else:
            written.append(re.escape(character))
        position += 1
    return "".join(written)
