"""Entity tags in conditional requests (RFC 9110, section 8.8.3)."""

import re

_TAG = re.compile(r'\s*(?:W/)?"([!#-~\x80-\xff]*)"\s*(?:,|$)')


def parse_etags(header: str) -> list[str]:
    """Return the tags of a list, without quotes.

    A weak tag counts as the strong one of the same text: proxies that compress make tags weak, and
    a guarded write behind one would always fail.

    Args:
        header: `If-Match` or `If-None-Match`, other than `*`; several of them joined by commas.

    Raises:
        ValueError: it is no such list.
    """
    tags: list[str] = []
    place = 0
    while place < len(header):
        match = _TAG.match(header, place)
        if match is None:
            raise ValueError("is not a list of entity tags")
        tags.append(match[1])
        place = match.end()
    if not tags:
        raise ValueError("is empty")
    return tags
