"""The columns that an application's own class of profiles adds to `User`."""

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError, create_model

from amphibase.models import User
from amphibase.records.derived import changes, create_schema, update_schema
from amphibase.records.fields import cached_by_model, fields_of


@cached_by_model
def own_columns(model: type[User]) -> tuple[str, ...]:
    """Return the columns that the class adds and clients may set."""
    return tuple(
        key
        for key, field in fields_of(model).items()
        if key not in fields_of(User) and not field.server_set
    )


def with_own_columns(
    model: type[User], base: type[BaseModel], *, partial: bool = False
) -> type[BaseModel]:
    """Return the schema of a request that takes the class's own columns too.

    Args:
        base: what the request takes beside them.
        partial: whether only what is sent is changed, so that nothing is required.
    """
    schema = update_schema(model) if partial else create_schema(model)
    fields: dict[str, Any] = {
        key: (schema.model_fields[key].annotation, schema.model_fields[key])
        for key in own_columns(model)
    }
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)


def own_values(model: type[User], body: BaseModel) -> dict[str, Any]:
    """Return what a request sets of the class's own columns."""
    return {key: value for key, value in changes(body).items() if key in own_columns(model)}


def to_metadata(model: type[User], body: BaseModel) -> dict[str, Any]:
    """Return the same as JSON, which an account stores until its profile is created."""
    sent = body.model_fields_set & set(own_columns(model))
    return body.model_dump(mode="json", include=sent)


def from_metadata(model: type[User], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the class's own columns that an account's metadata hold.

    What does not fit its column is left out: metadata may come from elsewhere.
    """
    schema = _partial(model)
    values: dict[str, Any] = {}
    for key in own_columns(model):
        if key in metadata:
            try:
                body = schema.model_validate_json(orjson.dumps({key: metadata[key]}))
            except ValidationError:
                continue
            values[key] = getattr(body, key)
    return values


@cached_by_model
def _partial(model: type[User]) -> type[BaseModel]:
    return with_own_columns(model, BaseModel, partial=True)
