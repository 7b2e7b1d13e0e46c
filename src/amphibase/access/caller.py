"""The caller in the expressions of rules and filters of scopes: `me`."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar, overload
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from amphibase.errors import InvalidRequest

Expression = TypeVar("Expression", bound=ColumnElement[Any])
Claim = TypeVar("Claim")

_NOT_A_WORD = re.compile(r"\W")
CALLER = "caller"
"""The name of the bound value of the caller's id."""
ID = ("sub",)
EMAIL = ("email",)


@dataclass(frozen=True, slots=True)
class ClaimForm:
    """What a claim must be to count as a value of some type: else it is NULL, and never an error.

    Args:
        sql_type: of the value, in SQL.
        pattern: which whole texts are such values, as Python and Postgres read it alike.
        read: returns the value of such a text.
    """

    type: type[Any]
    sql_type: TypeEngine[Any]
    pattern: str
    read: Callable[[str], Any]


CLAIM_FORMS = {
    form.type: form
    for form in (
        ClaimForm(UUID, Uuid(), "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", UUID),
        ClaimForm(int, BigInteger(), "-?[0-9]{1,18}", int),
    )
}
"""The types beside text that a claim can be compared as."""


class CallerValue(ColumnElement[Any]):
    """A value of the caller's token. It stands in rules alone, where each backend puts its own form
    of it: a bound value, or SQL that reads the claims of the database session.

    Attributes:
        path: of the claim, from the outermost name.
        form: of a claim that is no text.
        name: of the bound value; different for each path and form.
    """

    __visit_name__ = "amphibase_caller_value"
    inherit_cache = False

    def __init__(
        self, path: tuple[str, ...], type_: TypeEngine[Any], form: ClaimForm | None = None
    ) -> None:
        self.path = path
        self.form = form
        self.type = type_
        self.name = CALLER if path == ID else _parameter_name(path, form)

    def __str__(self) -> str:
        if self.path == ID:
            return "me.id"
        if self.path == EMAIL and self.form is None:
            return "me.email"
        names = ", ".join(map(repr, self.path))
        return f"me.claim({names}{f', type={self.form.type.__name__}' if self.form else ''})"

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
        text = _as_text(value)
        if self.form is None or text is None:
            return text
        return self.form.read(text) if re.fullmatch(self.form.pattern, text) else None


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

    @overload
    def claim(self, name: str, *names: str) -> ColumnElement[str]: ...

    @overload
    def claim(self, name: str, *names: str, type: type[Claim]) -> ColumnElement[Claim]: ...

    def claim(self, name: str, *names: str, type: type[Any] = str) -> ColumnElement[Any]:
        """Return a claim of the token: `me.claim("app_metadata", "plan")`.

        As text, numbers, true and false are written as JSON writes them. Users can change what is
        in `user_metadata` themselves, so it decides nothing.

        Args:
            name: of the claim.
            names: of what is in it, one level each.
            type: `str`, or `UUID` or `int` for columns of these: NULL where the claim is none.

        Raises:
            ValueError: the claim is the user's own to change, or no claim can have such a name.
            TypeError: claims are not compared as such a type.
        """
        if any("\0" in each for each in (name, *names)):
            raise ValueError("me.claim: Postgres has no claims with a NUL character in their name")
        if name == "user_metadata":
            raise ValueError("me.claim: users change user_metadata themselves; use app_metadata")
        if type is str:
            return CallerValue((name, *names), Text())
        form = CLAIM_FORMS.get(type)
        if form is None:
            raise TypeError(f"me.claim: type is str, UUID or int, not {type!r}")
        return CallerValue((name, *names), form.sql_type, form)


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


def _parameter_name(path: tuple[str, ...], form: ClaimForm | None) -> str:
    words = "_".join(_NOT_A_WORD.sub("", name) for name in path)
    digest = hashlib.sha256(json.dumps(path).encode()).hexdigest()[:8]
    return f"{CALLER}_{words}_{digest}{f'_{form.type.__name__}' if form else ''}"


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
