"""Reads `Accept`, and names the media types that the Data API has of its own."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter

JSON = "application/json"
CSV = "text/csv"
GEO = "application/geo+json"
OPENAPI = "application/openapi+json"
SINGULAR = "application/vnd.pgrst.object"
ARRAY = "application/vnd.pgrst.array"
PLAN = "application/vnd.pgrst.plan"
ANY = "*/*"

_SAME = {
    "application/vnd.pgrst.object+json": SINGULAR,
    "application/vnd.pgrst.array+json": ARRAY,
}
_PLANS = {PLAN: "text", f"{PLAN}+text": "text", f"{PLAN}+json": "json"}
_KNOWN = (
    JSON, CSV, GEO, OPENAPI, ANY, "text/plain", "text/xml", "application/octet-stream",
    "application/x-www-form-urlencoded",
)  # fmt: skip
_STRIPPED = "nulls=stripped"
_QUALITY = re.compile(";q=", re.IGNORECASE)
EXPLAIN_OPTIONS = ("analyze", "verbose", "settings", "buffers", "wal")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type with its parameters.

    Attributes:
        name: in lower case; without a suffix that does not change the meaning.
        written: as the client wrote it.
    """

    name: str
    parameters: tuple[tuple[str, str], ...] = ()
    written: str = field(default="", compare=False)

    def __getitem__(self, name: str) -> str:
        """Return the value of a parameter, empty where it is missing."""
        return dict(self.parameters).get(name, "")

    @property
    def strips_nulls(self) -> bool:
        """Whether keys without a value are left out."""
        return self["nulls"] == "stripped"

    def __str__(self) -> str:
        """Return what the responses call it."""
        match self.name:
            case "application/vnd.pgrst.object":
                return f"{SINGULAR}+json" + (f";{_STRIPPED}" if self.strips_nulls else "")
            case "application/vnd.pgrst.array":
                return f"{ARRAY}+json;{_STRIPPED}" if self.strips_nulls else JSON
            case "application/vnd.pgrst.plan":
                asked = self["options"].split("|")
                options = "|".join(each for each in EXPLAIN_OPTIONS if each in asked)
                shown = f'{PLAN}+{self["format"]}; for="{self.explained}"'
                return shown + (f"; options={options}" if options else "")
        return self.name if self.name in _KNOWN else self.written

    @property
    def explained(self) -> "MediaType":
        """The type whose execution plan this one is."""
        return read_media_type(self["for"] or JSON)


def read_media_type(text: str) -> MediaType:
    """Parse `type/subtype; parameter=value`."""
    name, *rest = text.split(";")
    name = name.strip().lower()
    parameters = []
    for part in rest:
        key, _, value = part.partition("=")
        parameters.append((key.strip().lower(), value.strip().strip('"')))
    known = _SAME.get(name, name)
    if known in _PLANS:
        parameters.append(("format", _PLANS[known]))
        known = PLAN
    return MediaType(known, tuple(parameters), text.strip())


def read_accept(headers: Iterable[str]) -> list[MediaType]:
    """Parse what a client accepts, the preferred types first (RFC 9110, section 12.5.1).

    Of those it prefers alike, one with parameters comes before one without, and that before a
    wildcard.
    """
    accepted = []
    for part in _split(",".join(headers)):
        text, *after = _QUALITY.split(part.replace(" ", ""), 1)
        quality = _quality(after[0].partition(";")[0]) if after else 1
        if quality > 0:
            specificity = text.count(";") - text.count("*")
            accepted.append((-quality, -specificity, read_media_type(text)))
    accepted.sort(key=itemgetter(0, 1))
    return [media_type for _, _, media_type in accepted] or [MediaType(ANY)]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0


def _split(text: str) -> list[str]:
    """The parts between commas, but for those within quotes."""
    parts, start, quoted = [], 0, False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]
