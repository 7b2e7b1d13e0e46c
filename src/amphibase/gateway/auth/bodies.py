"""Bodies of requests: read within limits, and typed."""

import asyncio
import json
import re
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from starlette.requests import Request

from amphibase.accounts.oauth.flows import Challenge
from amphibase.errors import PayloadTooLarge
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError, invalid
from amphibase.gateway.auth.go_json import UNEXPECTED_END, syntax_error, type_error

MAX_BODY_BYTES = 4 << 20
BODY_SECONDS = 30
MAX_EMAIL_BYTES = 255

# What a browser takes for an address (WHATWG's HTML, "valid e-mail address").
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@"
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
    re.IGNORECASE | re.ASCII,
)
_PHONE = re.compile(r"[1-9][0-9]{1,14}")
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]+")


class Body(BaseModel):
    """A JSON object; null means that a field is missing, and unknown fields are ignored.

    The names of fields may have any case, as for Go's `encoding/json`.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    go_type: ClassVar[str] = ""

    def __init_subclass__(cls, go_type: str = "", **options: Any) -> None:
        """Take the name that Supabase Auth's messages give to such a body."""
        super().__init_subclass__(**options)
        cls.go_type = go_type or cls.go_type

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {key.lower(): each for key, each in value.items() if each is not None}
        return value


Model = TypeVar("Model", bound=Body)


class PkceBody(Body):
    """A challenge that the client has to solve at the end of the flow (RFC 7636)."""

    code_challenge: str = ""
    code_challenge_method: str = ""

    def check_challenge(self) -> Challenge | None:
        """Return the challenge, where there is one. Raises AuthError for one that is malformed."""
        method, challenge = self.code_challenge_method, self.code_challenge
        if not method and not challenge:
            return None
        if not method or not challenge:
            raise invalid("PKCE flow requires code_challenge_method and code_challenge")
        if method.lower() not in ("s256", "plain"):
            raise invalid("code_challenge_method has to be s256 or plain")
        if not 43 <= len(challenge) <= 128:
            raise invalid("code challenge has to be between 43 and 128 characters")
        if not _CHALLENGE.fullmatch(challenge):
            raise invalid(
                "code challenge can only contain alphanumeric characters, hyphens, periods, "
                "underscores and tildes"
            )
        return Challenge(challenge, method.lower())


async def read(
    request: Request,
    kind: type[Model],
    *,
    required: bool = True,
    fault: str = codes.BAD_JSON.message,
    streamed: bool = False,
) -> Model:
    """Return the request's body.

    Args:
        required: False where an empty one is an empty object.
        fault: how the message begins for one that cannot be read.
        streamed: whether Supabase Auth reads it by Go's `json.Decoder`, which has other words for
            one that ends too soon.

    Raises:
        AuthError: it is no such object, or does not come in time.
        PayloadTooLarge: it is over the limit.
    """
    content = await _content(request)
    if not required and not content:
        return kind()
    try:
        value = _decoded(content)
        return kind.model_validate({} if value is None else value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = type_error(value, kind, kind.go_type) or f"{first['loc'][0]}: {first['msg']}"
    except RecursionError:
        reason = "exceeded max depth"
    except ValueError as error:
        reason = str(error)
        if streamed and reason == UNEXPECTED_END:
            reason = "unexpected EOF" if content.strip() else "EOF"
    raise AuthError(codes.BAD_JSON, f"{fault}: {reason}")


def _decoded(content: bytes) -> Any:
    """Return a text as JSON; what is not Unicode becomes U+FFFD, as in Go. Raises ValueError."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        if reason := syntax_error(content):
            raise ValueError(reason) from None
        value = _as_unicode(json.loads(content.decode("utf-8", "replace")))
    if _has_nul(value):
        raise ValueError("a string holds NUL, which the database cannot keep")
    return value


async def _content(request: Request) -> bytes:
    """Return the bytes of the body, which may be read several times."""
    if not hasattr(request.state, "content"):
        content = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    content += chunk
                    if len(content) > MAX_BODY_BYTES:
                        raise PayloadTooLarge
        except TimeoutError:
            raise AuthError(codes.REQUEST_TIMEOUT) from None
        request.state.content = bytes(content)
    read: bytes = request.state.content
    return read


def email_of(text: str) -> str:
    """Return the address as accounts store it. Raises AuthError."""
    if not text:
        raise invalid("An email address is required")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_EMAIL_BYTES:
        raise invalid("An email address is too long")
    # Before it is put into small letters, which makes letters of ASCII of some others.
    if not _EMAIL.fullmatch(text):
        raise invalid("Unable to validate email address: invalid format")
    return text.lower()


def normalized_phone(text: str) -> str:
    """Return a number without a plus sign and spaces, whether or not it is one."""
    return text.removeprefix("+").replace(" ", "")


def phone_of(text: str) -> str:
    """Return the number as accounts store it, digits alone (E.164). Raises AuthError."""
    phone = normalized_phone(text)
    if not _PHONE.fullmatch(phone):
        raise invalid("Invalid phone number format (E.164 required)")
    return phone


def uuid_of(text: str, name: str) -> UUID:
    """Return the id in a path. Raises AuthError."""
    try:
        return UUID(text)
    except ValueError:
        raise AuthError(codes.NOT_AN_ID, f"{name} must be an UUID") from None


def _as_unicode(value: Any) -> Any:
    """Return a value whose texts have U+FFFD for each half of a surrogate pair."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_as_unicode(key): _as_unicode(each) for key, each in value.items()}
        case list():
            return [_as_unicode(each) for each in value]
    return value


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(key) or _has_nul(each) for key, each in value.items())
        case list():
            return any(map(_has_nul, value))
    return False
