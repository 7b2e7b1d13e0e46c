"""The header `X-Robots-Tag`: what crawlers may show of an object, by rules that may each be for one
crawler alone (https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag)."""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

from amphibase.gateway.storage.errors import InvalidRobotsTag

NOTHING = "none"
"""What an object without rules of its own is shown with: crawlers leave it out."""

_RULES = "all|noindex|nofollow|none|nosnippet|indexifembedded|notranslate|noimageindex"
_WITH_VALUE = "max-snippet|max-image-preview|max-video-preview|unavailable_after"
_RULE = re.compile(_RULES)
_VALUED = re.compile(rf"({_WITH_VALUE}):\s*(.*)")
# A date may hold a comma: it ends where another rule begins.
_PART = re.compile(
    rf"\s*(?:(unavailable_after:.*?)(?=,\s*(?:{_RULES}|{_WITH_VALUE}|[\w-]+:)|$)|([^,]*))(?:,|$)",
    re.ASCII,
)
_NUMBER = re.compile(r"-1|\d{1,9}", re.ASCII)
_PREVIEWS = ("none", "standard", "large")


def check_robots_tag(header: str) -> None:
    """Raise InvalidRobotsTag for what is no list of rules."""
    if not header.strip():
        raise InvalidRobotsTag("X-Robots-Tag header value must be a non-empty string")
    if not (header.isascii() and header.isprintable()):
        raise InvalidRobotsTag(f'Invalid X-Robots-Tag rule: "{header}"')
    start, text = 0, header.strip()
    while start < len(text):
        match = _PART.match(text, start)
        assert match is not None  # each part may be anything
        _check_rule((match[1] or match[2]).strip())
        start = match.end()


def _check_rule(rule: str) -> None:
    if not rule:
        raise InvalidRobotsTag("X-Robots-Tag header contains empty rule")
    if valued := _VALUED.fullmatch(rule):
        _check_value(valued[1], valued[2].strip())
    elif not _RULE.fullmatch(rule):
        crawler, colon, rest = rule.partition(":")
        if not colon:
            raise InvalidRobotsTag(f'Invalid X-Robots-Tag rule: "{rule}"')
        if not rest.strip():
            fault = f'X-Robots-Tag user agent "{crawler.strip()}" has no rules specified'
            raise InvalidRobotsTag(fault)
        _check_rule(rest.strip())


def _check_value(name: str, value: str) -> None:
    if not value:
        raise InvalidRobotsTag(f'X-Robots-Tag rule "{name}" requires a value')
    match name:
        case "max-image-preview":
            is_one, wanted = value in _PREVIEWS, f"one of: {', '.join(_PREVIEWS)}"
        case "unavailable_after":
            is_one, wanted = _is_date(value), "a valid date"
        case _:
            is_one, wanted = bool(_NUMBER.fullmatch(value)), "an integer >= -1"
    if not is_one:
        raise InvalidRobotsTag(f'X-Robots-Tag "{name}" value must be {wanted}, got: "{value}"')


def _is_date(value: str) -> bool:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            read(value)
        except (ValueError, TypeError, OverflowError):
            continue
        return True
    return False
