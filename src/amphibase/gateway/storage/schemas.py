"""Read the JSON of requests: within limits, and typed."""

import re
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from amphibase.gateway.storage.coercion import FAULT
from amphibase.gateway.storage.errors import (
    EntityTooLarge,
    InvalidContentType,
    MalformedRequest,
    UnreadableBody,
)
from amphibase.gateway.storage.versions import reject_versions

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Room for a thousand of the longest keys."""


class StorageModel(BaseModel):
    """A JSON object; names that are not its own are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    required: ClassVar[tuple[str, ...]] = ()
    """The names that have to be there, where their order is not the one of the fields."""


Model = TypeVar("Model", bound=StorageModel)


async def read_body(request: Request, kind: type[Model]) -> Model:
    """Read the body. Raises StorageError."""
    return validate(kind, await _json_of(request), "body")


async def read_unused_body(request: Request, *, may_be_empty: bool = False) -> None:
    """Read a body that nothing of the call depends on, but which has to be JSON where it says so.

    Raises:
        StorageError: it is not.
    """
    await _json_of(request, may_be_empty=may_be_empty)


async def _json_of(request: Request, *, may_be_empty: bool = False) -> Any:
    """Return what the body holds; None where it is not said to be JSON, whatever it is."""
    header = request.headers.get("content-type")
    if header is None:
        return None
    match = _CONTENT_TYPE.match(header)
    if match is None:
        raise InvalidContentType
    if match[1].lower() != "application/json":
        return None
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise EntityTooLarge
    if not content:
        if may_be_empty:
            return None
        raise UnreadableBody("Body cannot be empty when content-type is set to 'application/json'")
    try:
        return orjson.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableBody(
            "Body is not valid JSON but content-type is set to 'application/json'"
        ) from None


def read_query(request: Request, kind: type[Model]) -> Model:
    """Read the query; a name that is in it several times has a list. Raises StorageError."""
    members: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        earlier = members.get(name, [])
        members[name] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        if len(members[name]) == 1:
            members[name] = value
    return validate(kind, members, "querystring")


def validate(kind: type[Model], value: Any, where: str) -> Model:
    """Validate a value.

    Raises:
        MalformedRequest: with the message of a JSON schema.
        FeatureNotEnabled: it asks for versions of objects.
    """
    if isinstance(value, dict):
        reject_versions(value)
    try:
        model = kind.model_validate(value)
    except ValidationError as error:
        faults: Any = error.errors(include_url=False, include_input=False)
        raise MalformedRequest(_message(_first(faults, kind.required), where)) from None
    if _has_nul(model.model_dump()):  # which no text of the database can hold
        raise MalformedRequest(f"{where} must not hold the character NUL")
    return model


_CONTENT_TYPE = re.compile(r"\s*([!#$%&'*+.^_`|~\w-]+/[!#$%&'*+.^_`|~\w-]+)\s*(?:;|$)", re.ASCII)


def _first(faults: list[dict[str, Any]], required: tuple[str, ...]) -> dict[str, Any]:
    """Return the fault that ajv finds first: what an object lacks, before the parts it has."""
    inside = faults[0]["loc"]
    for depth in range(len(inside)):
        lacking = {
            fault["loc"][-1]: fault
            for fault in faults
            if fault["type"] == "missing" and fault["loc"][:-1] == inside[:depth]
        }
        for name in (*required, *lacking):
            if name in lacking:
                return lacking[name]
    return faults[0]


def _message(error: dict[str, Any], where: str) -> str:
    kind, steps, limits = error["type"], [str(step) for step in error["loc"]], error.get("ctx", {})
    if kind == "missing":
        return f"{'/'.join([where, *steps[:-1]])} must have required property '{steps[-1]}'"
    place = "/".join([where, *steps])
    match kind:
        case _ if kind == FAULT:
            return ", ".join(f"{place} {fault}" for fault in limits["faults"])
        case "too_short":
            return f"{place} must NOT have fewer than {limits['min_length']} items"
        case "too_long":
            return f"{place} must NOT have more than {limits['max_length']} items"
        case "string_too_short":
            return f"{place} must NOT have fewer than {limits['min_length']} characters"
        case "greater_than_equal":
            return f"{place} must be >= {limits['ge']}"
        case "less_than_equal":
            return f"{place} must be <= {limits['le']}"
        case "literal_error":
            return f"{place} must be equal to one of the allowed values"
    return f"{place} must be object"


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
        case list():
            return any(map(_has_nul, value))
    return False
