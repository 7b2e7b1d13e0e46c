"""The caller in the expressions of rules and filters of scopes: `me`."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Text, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from amphibase.errors import InvalidRequest

Expression = TypeVar("Expression", bound=ColumnElement[Any])

_NOT_A_WORD = re.compile(r"\W")
CALLER = "caller"
"""The name of the bound value of the caller's id."""
ID = ("sub",)
EMAIL = ("email",)


class CallerValue(ColumnElement[Any]):
    """A value of the caller's token. It stands in rules alone, where each backend puts its own form
    of it: a bound value, or SQL that reads the claims of the database session.

    Attributes:
        path: of the claim, from the outermost name.
        name: of the bound value; different for each path.
    """

    __visit_name__ = "amphibase_caller_value"
    inherit_cache = False

    def __init__(self, path: tuple[str, ...], type_: TypeEngine[Any]) -> None:
        self.path = path
        self.type = type_
        self.name = CALLER if path == ID else _parameter_name(path)

    def __str__(self) -> str:
        if self.path == ID:
            return "me.id"
        return "me.email" if self.path == EMAIL else f"me.claim{self.path!r}"

    def read(self, user_id: UUID | None, claims: Mapping[str, Any]) -> Any:
        """Return the value for a caller; None where the token does not have it.

        Args:
            user_id: of the caller; None for anonymous callers.
            claims: of the caller's token.
        """
        if self.path == ID:
            return user_id
        value: Any = claims
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return _as_text(value)


@compiles(CallerValue)
def _reject(element: CallerValue, *_: Any, **__: Any) -> str:
    raise InvalidRequest(f"{element} stands in access rules alone; elsewhere, use the Caller")


class Me:
    """The caller, as SQLAlchemy expressions. Each is NULL where the caller has no such value."""

    @property
    def id(self) -> ColumnElement[UUID]:
        """The id of the signed-in user."""
        return CallerValue(ID, Uuid())

    @property
    def email(self) -> ColumnElement[str]:
        """The address in the token."""
        return CallerValue(EMAIL, Text())

    def claim(self, name: str, *names: str) -> ColumnElement[str]:
        """Return a claim of the token, as text: `me.claim("app_metadata", "plan")`.

        Numbers, true and false are written as JSON writes them. Users can change what is in
        `user_metadata` themselves, so it decides nothing.

        Args:
            name: of the claim.
            names: of what is in it, one level each.

        Raises:
            ValueError: the claim is the user's own to change.
        """
        if name == "user_metadata":
            raise ValueError("me.claim: users change user_metadata themselves; use app_metadata")
        return CallerValue((name, *names), Text())


me = Me()
"""The caller in an access rule."""


def caller_values(expression: ColumnElement[Any]) -> dict[str, CallerValue]:
    """Return the values of the caller in an expression, by their names."""
    parts = visitors.iterate(expression)
    return {part.name: part for part in parts if isinstance(part, CallerValue)}


def replace_caller_values(
    expression: Expression, replacement: Callable[[CallerValue], ColumnElement[Any]]
) -> Expression:
    """Return an expression with another form of the caller's values."""

    def replace(element: Any, **_: Any) -> ColumnElement[Any] | None:
        return replacement(element) if isinstance(element, CallerValue) else None

    replaced: Expression = visitors.replacement_traverse(expression, {}, replace)
    return replaced


def _parameter_name(path: tuple[str, ...]) -> str:
    words = "_".join(_NOT_A_WORD.sub("", name) for name in path)
    digest = hashlib.sha256(json.dumps(path).encode()).hexdigest()[:8]
    return f"{CALLER}_{words}_{digest}"


def _as_text(value: Any) -> str | None:
    """Return a value of JSON as `#>>` of Postgres does (its docs, "JSON Functions")."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return json.dumps(_ordered(value), ensure_ascii=False)


def _ordered(value: Any) -> Any:
    # As jsonb keeps the names of an object: shorter ones first.
    if isinstance(value, Mapping):
        names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
        return {name: _ordered(value[name]) for name in names}
    return [_ordered(item) for item in value] if isinstance(value, list | tuple) else value
