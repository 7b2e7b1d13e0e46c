"""Chooses the media type of an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from amphibase.gateway.rest.catalog import Catalog, MediaHandler, Name
from amphibase.gateway.rest.errors import NotAcceptable
from amphibase.gateway.rest.media import (
    ANY,
    ARRAY,
    CSV,
    GEO,
    JSON,
    PLAN,
    SINGULAR,
    MediaType,
    read_media_type,
)
from amphibase.gateway.rest.plan import Explain, ExplainOption, Media

_UTF8 = "; charset=utf-8"
_STRIPPED = ";nulls=stripped"
_OPTIONS = ("analyze", "verbose", "settings", "buffers", "wal")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The form of an answer.

    Attributes:
        content_type: the header's value.
    """

    media: Media
    content_type: str

    @property
    def is_singular(self) -> bool:
        """Whether exactly one row is asked for."""
        return self.media.shape == "object"


AS_JSON = Chosen(Media(), JSON + _UTF8)


def choose(
    accepted: Sequence[MediaType], catalog: Catalog, table: Name | None, *, may_explain: bool
) -> Chosen:
    """The first of the accepted types that there is.

    Args:
        table: what the rows are of, which may have media types of its own.
        may_explain: whether execution plans are shown (PGRST_DB_PLAN_ENABLED).

    Raises:
        NotAcceptable: there is none of them.
    """
    for media_type in accepted:
        found = _handler(media_type, catalog, table) or _builtin(
            media_type, catalog, table, may_explain=may_explain
        )
        if found is not None:
            return found
    raise NotAcceptable([media_type.written or ANY for media_type in accepted])


def _builtin(
    media_type: MediaType, catalog: Catalog, table: Name | None, *, may_explain: bool
) -> Chosen | None:
    stripped = media_type["nulls"] == "stripped"
    match media_type.name:
        case "*/*" | "application/*" | "application/json":
            return AS_JSON
        case "application/vnd.pgrst.array":
            suffix = _STRIPPED if stripped else ""
            return Chosen(Media(strip_nulls=stripped), f"{ARRAY}+json{suffix}{_UTF8}")
        case "application/vnd.pgrst.object":
            suffix = _STRIPPED if stripped else ""
            return Chosen(Media("object", stripped), f"{SINGULAR}+json{suffix}{_UTF8}")
        case "text/csv":
            return Chosen(Media("csv"), CSV + _UTF8)
        case "application/geo+json":
            return Chosen(Media("geojson"), GEO + _UTF8)
        case "application/vnd.pgrst.plan" if may_explain:
            return _plan(media_type, catalog, table)
    return None


def _plan(media_type: MediaType, catalog: Catalog, table: Name | None) -> Chosen | None:
    what = read_media_type(media_type["for"] or JSON)
    shown = _builtin(what, catalog, table, may_explain=False) or _handler(what, catalog, table)
    if shown is None or media_type["format"] not in ("text", "json"):
        return None
    format = "json" if media_type["format"] == "json" else "text"
    named = [each for each in media_type["options"].split("|") if each in _OPTIONS]
    options = cast(tuple[ExplainOption, ...], tuple(named))
    explained = Media(
        shown.media.shape,
        shown.media.strip_nulls,
        shown.media.handler,
        Explain("json" if format == "json" else "text", options),
    )
    suffix = f"; options={'|'.join(named)}" if named else ""
    return Chosen(explained, f'{PLAN}+{format}; for="{what.written}"{suffix}{_UTF8}')


def _handler(media_type: MediaType, catalog: Catalog, table: Name | None) -> Chosen | None:
    """The project's own way to render the type: the table's, else one for all tables."""
    of_type = [each for each in catalog.media_handlers if each.media_type == media_type.name]
    of_table = [each for each in of_type if table is not None and each.table == table]
    for_all = [each for each in of_type if each.table is None]
    handlers: list[MediaHandler] = of_table or for_all
    if not handlers or (media_type.name == ANY):
        return None
    return Chosen(Media("handler", handler=handlers[0]), handlers[0].media_type)
