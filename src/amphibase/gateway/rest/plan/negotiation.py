"""Chooses the media type of a response."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from amphibase.gateway.rest.errors.base import NotAcceptable
from amphibase.gateway.rest.plan.types import BodyFormat, Explain, ExplainOption
from amphibase.gateway.rest.request.media_type import (
    ANY,
    CSV,
    EXPLAIN_OPTIONS,
    GEO,
    JSON,
    MediaType,
)
from amphibase.gateway.rest.schema.catalog import Catalog, MediaHandler, Name

_UTF8 = "; charset=utf-8"
_BYTES = "application/octet-stream"
_TEXTS = (JSON, CSV, GEO, "text/plain", "text/xml")


@dataclass(frozen=True, slots=True)
class NegotiatedMediaType:
    """The form of a response.

    Attributes:
        content_type: the header's value.
    """

    media: BodyFormat
    content_type: str

    @property
    def is_singular(self) -> bool:
        """Whether exactly one row is requested."""
        return self.media.shape == "object"

    @property
    def is_plan(self) -> bool:
        """Whether the response is how Postgres would do it."""
        return self.media.explain is not None


AS_JSON = NegotiatedMediaType(BodyFormat(), JSON + _UTF8)


def negotiate(
    accepted: Sequence[MediaType],
    catalog: Catalog,
    target: Name,
    *,
    is_whole: bool,
    may_explain: bool,
) -> NegotiatedMediaType:
    """Choose the first of the accepted types that is available.

    Args:
        target: what the rows are of, or the function whose value it is; it may have media types of
            its own.
        is_whole: whether all columns are selected and nothing beside them, which handlers of
            one table need.
        may_explain: whether execution plans are shown (PGRST_DB_PLAN_ENABLED).

    Raises:
        NotAcceptable: there is none of them.
    """
    media_types = _MediaTypes(catalog, target if is_whole else None)
    for media_type in accepted:
        negotiated = media_types.of(media_type, may_explain=may_explain)
        if negotiated is not None:
            return negotiated
    raise NotAcceptable([str(media_type) for media_type in accepted])


@dataclass(frozen=True, slots=True)
class _MediaTypes:
    """The media types of one target; those for all tables where there is none."""

    catalog: Catalog
    target: Name | None

    def of(self, media_type: MediaType, *, may_explain: bool) -> NegotiatedMediaType | None:
        match media_type.name:
            case "application/vnd.pgrst.array" if media_type.strips_nulls:
                return NegotiatedMediaType(BodyFormat(strip_nulls=True), f"{media_type}{_UTF8}")
            case "application/vnd.pgrst.object":
                body = BodyFormat("object", media_type.strips_nulls)
                return NegotiatedMediaType(body, f"{media_type}{_UTF8}")
            case "application/vnd.pgrst.plan":
                return self._plan(media_type) if may_explain else None
        return self._handled(media_type) or _builtin(media_type)

    def _plan(self, media_type: MediaType) -> NegotiatedMediaType | None:
        shown = self.of(media_type.explained, may_explain=False)
        if shown is None:
            return None
        format: Literal["text", "json"] = "json" if media_type["format"] == "json" else "text"
        named = media_type["options"].split("|")
        options = tuple(each for each in EXPLAIN_OPTIONS if each in named)
        explain = Explain(format, cast(tuple[ExplainOption, ...], options))
        return NegotiatedMediaType(shown.media._replace(explain=explain), f"{media_type}{_UTF8}")

    def _handled(self, media_type: MediaType) -> NegotiatedMediaType | None:
        """The project's own way to render the type: the target's, for all types or for this one,
        else one for all tables."""
        wanted: list[tuple[Name | None, str]] = [(None, media_type.name)]
        if self.target is not None:
            wanted = [(self.target, ANY), (self.target, media_type.name), *wanted]
        for target, name in wanted:
            for each in self.catalog.media_handlers:
                if (each.target, each.media_type) == (target, name):
                    return _by(each)
        return None


def _by(handler: MediaHandler) -> NegotiatedMediaType:
    media = BodyFormat("handler", handler=handler) if handler.is_aggregate else BodyFormat("scalar")
    if handler.media_type == ANY:
        return NegotiatedMediaType(media, _BYTES)
    suffix = _UTF8 if handler.media_type in _TEXTS else ""
    return NegotiatedMediaType(media, handler.media_type + suffix)


def _builtin(media_type: MediaType) -> NegotiatedMediaType | None:
    match media_type.name:
        case "*/*" | "application/*" | "application/json" | "application/vnd.pgrst.array":
            return AS_JSON
        case "text/csv":
            return NegotiatedMediaType(BodyFormat("csv"), CSV + _UTF8)
        case "application/geo+json":
            return NegotiatedMediaType(BodyFormat("geojson"), GEO + _UTF8)
    return None
