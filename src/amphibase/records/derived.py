"""Pydantic models built from mapped classes: of the responses, and of what callers may send."""

import warnings
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model
from pydantic import Field as Limits
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from amphibase.records.fields import cached_by_model, fields_of
from amphibase.records.input import Input


@cached_by_model
def read_model(model: type[Any]) -> type[BaseModel]:
    """Build the schema of a row as callers see it: its columns without the private ones."""
    fields: dict[str, Any] = {
        field.key: (field.output | None if field.nullable else field.output, ...)
        for field in fields_of(model).values()
        if not field.hidden
    }
    return _make(model.__name__, model.__doc__, READ, fields)


@cached_by_model
def create_schema(model: type[Any]) -> type[BaseModel]:
    """Build the schema of a new row; what the server sets is rejected by name."""
    fields: dict[str, Any] = {}
    for field in fields_of(model).values():
        if field.server_set:
            if not field.private:
                fields[field.key] = REJECTED
            continue
        taken = field.input | None if field.nullable else field.input
        if field.required:
            fields[field.key] = (taken, ...)
        else:
            fields[field.key] = (taken, _default(field.column))
    return _make(f"{model.__name__}Create", f"A new {model.__name__}.", Input, fields)


@cached_by_model
def update_schema(model: type[Any]) -> type[BaseModel]:
    """Build the schema of changes of a row: only what is sent is changed (`changes`)."""
    fields: dict[str, Any] = {}
    for field in fields_of(model).values():
        if field.fixed:
            if not field.private:
                fields[field.key] = REJECTED
            continue
        fields[field.key] = (field.input | None if field.nullable else field.input, _unset())
    return _make(f"{model.__name__}Update", f"Changes of a {model.__name__}.", Input, fields)


def changes(body: BaseModel) -> dict[str, Any]:
    """Return what was sent, as Python's own values."""
    return {key: getattr(body, key) for key in body.model_fields_set}


class _RowSchema(BaseModel):
    model_config = ConfigDict(from_attributes=True, protected_namespaces=())


READ = _RowSchema


def _reject(_: Any) -> Any:
    raise PydanticCustomError("set_by_server", "is set by the server")


def _unset() -> Any:
    """Return a default that no document shows: `model_fields_set` has what was sent."""
    return Limits(default_factory=lambda: None)


Rejected: Any = SkipJsonSchema[Annotated[Any, BeforeValidator(_reject)]]  # type: ignore[misc]
REJECTED = (Rejected, _unset())


def _default(column: Any) -> Any:
    default = column.default
    return default.arg if default is not None and default.is_scalar else _unset()


def _make(
    name: str, doc: str | None, base: type[BaseModel], fields: dict[str, Any]
) -> type[BaseModel]:
    with warnings.catch_warnings():
        # A column may be called `copy` or `json`, as methods of pydantic's are.
        warnings.filterwarnings("ignore", "Field name .* shadows an attribute", UserWarning)
        schema: type[BaseModel] = create_model(name, __base__=base, __doc__=doc, **fields)
    return schema
