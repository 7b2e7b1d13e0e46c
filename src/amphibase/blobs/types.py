"""What type a file is: what its sender says, held against its first bytes."""

import mimetypes
import re
from collections.abc import Sequence
from functools import cache

from amphibase.errors import UnsupportedFileType

HEAD_BYTES = 4096
"""How much of a file's beginning is looked at."""

ANY = "application/octet-stream"
PLAIN = "text/plain"
TEXT = (
    "application/json",
    "application/javascript",
    "application/xml",
    "application/yaml",
    "image/svg+xml",
)
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
STRICT = (
    "image/",
    "application/pdf",
    "application/zip",
    "application/gzip",
)
"""What has an unmistakable beginning, and has to have it."""

UNMISTAKABLE = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/bmp": "image/x-ms-bmp"}
TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)
"""How a type is written (RFC 6838, section 4.2). It becomes a header: nothing else may be in it."""

SURE_BYTES = 3
"""A signature of fewer bytes occurs in too many files of other types."""


def checked_type(head: bytes, declared: str | None, name: str) -> str:
    """Return the type that a file is stored with.

    Args:
        head: the first bytes, HEAD_BYTES of them where there are so many.
        declared: the type that the sender declares; None or `application/octet-stream` for none.
        name: its extension is a hint where no type is declared.

    Raises:
        UnsupportedFileType: the declared type is invalid, or the bytes are of another one.
    """
    kind = (declared or ANY).partition(";")[0].strip().lower()
    if not TYPE.fullmatch(kind):
        raise UnsupportedFileType("A type is written as in image/png")
    signatures = _recognised(head)
    if kind != ANY:
        if head and not _agrees(kind, head, signatures):
            raise UnsupportedFileType(f"The bytes are not of the type {kind}")
        return kind
    guessed = mimetypes.guess_type(name)[0]
    if guessed and _agrees(guessed, head, signatures):
        return guessed
    for kind, length in signatures.items():
        if length >= SURE_BYTES and not kind.startswith("text/"):
            return kind
    return PLAIN if _agrees(PLAIN, head, signatures) and head.isascii() else ANY


def is_allowed(kind: str, patterns: Sequence[str]) -> bool:
    """Return whether a type is among the patterns, such as `image/png` or `image/*`; no pattern,
    any."""
    return not patterns or any(
        pattern in ("*/*", kind) or (pattern.endswith("/*") and kind.startswith(pattern[:-1]))
        for pattern in patterns
    )


def _recognised(head: bytes) -> dict[str, int]:
    """The types that the beginning may be of, each with the length of its signature; the likeliest
    first."""
    import puremagic  # whose tables take memory that only uploads need

    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return {}
    signatures: dict[str, int] = {}
    for match in matches:
        if match.mime_type:
            signatures.setdefault(match.mime_type, len(match.byte_match))
    return signatures


def _agrees(kind: str, head: bytes, signatures: dict[str, int]) -> bool:
    kind = ALIASES.get(kind, kind)
    if kind in signatures:
        return True
    contradicted = any(recognised in UNMISTAKABLE for recognised in signatures)
    if kind.startswith("text/") or kind in TEXT or kind.endswith(("+json", "+xml")):
        return not contradicted and (b"\x00" not in head or head.startswith(BYTE_ORDER_MARKS))
    if kind.startswith(("audio/", "video/")):
        # Containers are shared by sound and pictures, and have many names.
        return not signatures or any(
            recognised.startswith(("audio/", "video/")) for recognised in signatures
        )
    return not contradicted and not (kind.startswith(STRICT) and kind in _signed())


@cache
def _signed() -> frozenset[str]:
    """The types whose beginnings are known."""
    import puremagic

    entries = puremagic.magic_header_array
    return frozenset(entry.mime_type for entry in entries if entry.mime_type)
