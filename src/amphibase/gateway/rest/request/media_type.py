"""Reads `Accept`, and names the media types that the Data API has of its own."""

from collections.abc import Iterable
from dataclasses import dataclass, field

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


def read_media_type(text: str) -> MediaType:
    """Parse `type/subtype; parameter=value`."""
    name, *rest = text.split(";")
    name = name.strip().lower()
    parameters = []
    for part in rest:
        key, _, value = part.partition("=")
        parameters.append((key.strip().lower(), value.strip().strip('"')))
    known = _SAME.get(name, name)
    if known.startswith(PLAN):  # application/vnd.pgrst.plan+json, +text
        suffix = known.removeprefix(PLAN).lstrip("+")
        known = PLAN
        parameters.append(("format", suffix or "text"))
    return MediaType(known, tuple(each for each in parameters if each[0] != "q"), text.strip())


def full_name(name: str) -> str:
    """Return the name with the suffix that it is shown with."""
    return f"{name}+json" if name in (SINGULAR, ARRAY) else name


def read_accept(headers: Iterable[str]) -> list[MediaType]:
    """Parse what a client accepts, the preferred types first (RFC 9110, section 12.5.1)."""
    accepted = []
    for part in _split(",".join(headers)):
        media_type = read_media_type(part)
        quality = 1.0
        for parameter in part.split(";")[1:]:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0
        if quality > 0:
            accepted.append((quality, media_type))
    accepted.sort(key=lambda each: -each[0])
    return [media_type for _, media_type in accepted] or [MediaType(ANY)]


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
