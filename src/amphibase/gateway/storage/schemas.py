"""Read the JSON of requests: within limits, and typed."""

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from amphibase.gateway.storage.errors import EntityTooLarge, MalformedRequest
from amphibase.gateway.storage.versions import reject_versions

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Room for a thousand of the longest keys."""


class StorageModel(BaseModel):
    """A JSON object; names that are not its own are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


Model = TypeVar("Model", bound=StorageModel)


async def read_body(request: Request, kind: type[Model]) -> Model:
    """Read the body; an empty one is an empty object. Raises StorageError."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise EntityTooLarge
    try:
        value = orjson.loads(content) if content.strip() else {}
    except (ValueError, RecursionError):
        raise MalformedRequest(
            "Body is not valid JSON but content-type is set to 'application/json'"
        ) from None
    return validate(kind, value, "body")


def read_query(request: Request, kind: type[Model]) -> Model:
    """Read the query. Raises StorageError."""
    return validate(kind, dict(request.query_params), "querystring")


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
        first: Any = error.errors(include_url=False, include_input=False)[0]
        raise MalformedRequest(_message(first, where)) from None
    if _has_nul(model.model_dump()):  # which no text of the database can hold
        raise MalformedRequest(f"{where} must not hold the character NUL")
    return model


_TYPES = {
    "string_type": "string",
    "int_type": "integer",
    "int_parsing": "integer",
    "int_from_float": "integer",
    "bool_type": "boolean",
    "bool_parsing": "boolean",
    "list_type": "array",
    "dict_type": "object",
    "model_type": "object",
    "model_attributes_type": "object",
}


def _message(error: dict[str, Any], where: str) -> str:
    kind, steps, limits = error["type"], [str(step) for step in error["loc"]], error.get("ctx", {})
    if kind == "missing":
        return f"{'/'.join([where, *steps[:-1]])} must have required property '{steps[-1]}'"
    place = "/".join([where, *steps])
    match kind:
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
    return f"{place} must be {_TYPES.get(kind, 'what the call takes')}"


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
        case list():
            return any(map(_has_nul, value))
    return False
