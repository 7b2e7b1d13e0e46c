"""Where people may be sent on to after they followed a link: an open redirect would hand their
session to the author of the link. The rules are those of Supabase Auth (`IsRedirectURLValid` in its
`internal/utilities/request.go`), which rejects no user in a URL and no backslash in its path."""

import re
from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from amphibase.loopback import is_loopback

MAX_CHARACTERS = 2048

# Browsers take a backslash for a slash and drop tabs and line ends, so that the host is another
# than the one that a parser sees.
_UNSAFE = re.compile(r"[\\\s\x00-\x20\x7f]")

_IS_WEB = re.compile("https?:", re.IGNORECASE)
_IS_SCRIPT = re.compile("(?:javascript|data|vbscript):", re.IGNORECASE)
_DECIMAL_ADDRESS = re.compile("[0-9]+")
_HOST = re.compile("[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?")


class Redirects:
    """Decides where links may lead: to the site and what else is allowed.

    Args:
        site_url: where people go by default; all of its scheme, host and port is allowed.
        allowed: patterns of URLs, as `glob_to_regex` takes them; none admits an IP address but
            those of this machine, which are allowed in any case.
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
        named = (
            preferred
            or request.headers.get("redirect_to", "")
            or request.query_params.get("redirect_to", "")
        )
        candidates = (named, request.headers.get("referer", ""))
        return next((url for url in candidates if url and self.allows(url)), self._site_url)

    def allows(self, url: str) -> bool:
        """Return whether a redirect may lead there."""
        if len(url) > MAX_CHARACTERS or _UNSAFE.search(url) or _IS_SCRIPT.match(url):
            return False
        is_web = _IS_WEB.match(url) is not None
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            # What is no URL may be a link into an application, and no other page.
            return not is_web and self._is_listed(url)
        if parts.username is not None:
            return False
        # On one's own machine each application has its port.
        same_port = port == self._site.port or is_loopback(host)
        if host == self._site.hostname and parts.scheme == self._site.scheme and same_port:
            return True
        if _DECIMAL_ADDRESS.fullmatch(host):
            return False
        try:
            return ip_address(host).is_loopback
        except ValueError:
            pass
        return not (is_web and not _HOST.fullmatch(host)) and self._is_listed(url)

    def _is_listed(self, url: str) -> bool:
        bare = url.partition("#")[0]
        return any(pattern.fullmatch(bare) for pattern in self._allowed)


@cache
def glob_to_regex(pattern: str) -> str:
    """Return a pattern of allowed URLs as a regular expression.

    `*` is anything but `.` and `/`, `**` anything at all, `?` one character but these two, `[…]`
    one of these, `[!…]` one of all others, `{…,…}` one of several patterns, and a backslash takes
    the next character as it is (https://github.com/gobwas/glob).
    """
    written = []
    position = depth = 0
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
        elif character == "{":
            written.append("(?:")
            depth += 1
        elif character == "," and depth:
            written.append("|")
        elif character == "}" and depth:
            written.append(")")
            depth -= 1
        elif character == "\\" and position + 1 < len(pattern):
            position += 1
            written.append(re.escape(pattern[position]))
        else:
            written.append(re.escape(character))
        position += 1
    return "".join(written)
