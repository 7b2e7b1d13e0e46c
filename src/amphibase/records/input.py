"""What every request body has in common, whichever model it is for."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def plain(value: str) -> str:
    """Return the text, if every database takes it. Raises ValueError."""
    if "\x00" in value:
        raise ValueError("must not contain a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not contain half of a surrogate pair")
    return value


PLAIN = AfterValidator(plain)
"""Stands behind the limits of a text's length, whose errors then speak of characters."""

PlainText = Annotated[str, PLAIN]
"""Text that every database takes."""


class Input(BaseModel):
    """The base of request bodies: an unknown field is rejected, not ignored."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)
