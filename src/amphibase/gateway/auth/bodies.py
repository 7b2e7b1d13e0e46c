"""Bodies of requests: read within limits, and typed."""

import asyncio
import re
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from starlette.requests import Request

from amphibase.accounts.oauth.flows import Challenge
from amphibase.errors import PayloadTooLarge
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.errors import AuthError, invalid

MAX_BODY_BYTES = 1 << 20
BODY_SECONDS = 30
MAX_EMAIL_CHARACTERS = 255

# What a browser takes for an address (WHATWG's HTML, "valid e-mail address").
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@"
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_PHONE = re.compile(r"[1-9][0-9]{1,14}")
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]+")


class Body(BaseModel):
    """A JSON object; null means that a field is missing, and unknown fields are ignored.

    The names of fields may have any case, as for Go's `encoding/json`.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

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


async def read(request: Request, kind: type[Model], *, required: bool = True) -> Model:
    """Return the request's body.

    Args:
        required: False where an empty one is an empty object.

    Raises:
        AuthError: it is no such object, or does not come in time.
        PayloadTooLarge: it is over the limit.
    """
    content = await _content(request)
    if not required and not content:
        return kind()
    try:
        value = orjson.loads(content)
        if _has_nul(value):
            raise ValueError("a string holds NUL, which the database cannot keep")
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        fault = f"{where}: {first['msg']}" if where else first["msg"]
    except (ValueError, RecursionError) as error:
        fault = str(error)
    raise AuthError(codes.BAD_JSON, f"{codes.BAD_JSON.message}: {fault}")


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
    email = text.lower()
    if not email:
        raise invalid("An email address is required")
    if len(email) > MAX_EMAIL_CHARACTERS:
        raise invalid("An email address is too long")
    if not _EMAIL.fullmatch(email):
        raise invalid("Unable to validate email address: invalid format")
    return email


def phone_of(text: str) -> str:
    """Return the number as accounts store it, digits alone (E.164). Raises AuthError."""
    phone = text.removeprefix("+").replace(" ", "")
    if not _PHONE.fullmatch(phone):
        raise invalid("Invalid phone number format (E.164 required)")
    return phone


def uuid_of(text: str, name: str) -> UUID:
    """Return the id in a path. Raises AuthError."""
    try:
        return UUID(text)
    except ValueError:
        raise AuthError(codes.NOT_AN_ID, f"{name} must be an UUID") from None


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(key) or _has_nul(each) for key, each in value.items())
        case list():
            return any(map(_has_nul, value))
    return False
