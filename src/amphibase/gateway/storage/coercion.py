"""Types of values as Storage reads them: what has another type is turned into it where that is
plain, as ajv does for supabase/storage (its option `coerceTypes: "array"`)."""

import math
import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

FAULT: Final = "storage_fault"
"""The type of the errors raised here; their message follows the place, as in `body/limit …`."""

NO_INTEGER: Final = "must be integer"
NOT_FINITE: Final = 'must pass "finite" keyword validation'

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|0[xX][\da-fA-F]+", re.ASCII)
_SIZE: Final = r"^[0-9]+(?:\.[0-9]+)?(?:[gG][bB]|[mM][bB]|[kK][bB]|[bB])$"


class Faults(PydanticCustomError):
    """Raised with what is wrong with a value, of each alternative that it might have been."""

    def __new__(cls, *faults: str) -> "Faults":
        return super().__new__(cls, FAULT, "fault", {"faults": faults})

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple((self.context or {})["faults"])


def _alone(value: Any) -> Any:
    """Return what a list holds where that is one thing."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _text(value: Any) -> Any:
    match _alone(value):
        case str(text):
            return text
        case bool(flag):
            return str(flag).lower()
        case int(number):
            return str(number)
        case float(number):
            return str(int(number)) if number.is_integer() and abs(number) < 1e21 else str(number)
        case None:
            return ""
    raise Faults("must be string")


def _number(value: Any) -> float | int | None:
    """Return a number as JavaScript reads it; None for what it cannot read."""
    match value:
        case bool() | None:
            return int(value or 0)
        case int() | float():
            return value
        case str(text) if text and not text.strip():
            return 0
        case str(text) if _NUMBER.fullmatch(text.strip()):
            return int(text, 16) if "x" in text.lower() else float(text)
        case str(text) if text.strip().lstrip("+-") == "Infinity":
            return math.inf
    return None


def _whole(value: Any) -> Any:
    number = _number(_alone(value))
    if number is None or (math.isfinite(number) and number != int(number)):
        raise Faults(NO_INTEGER)
    if not math.isfinite(number):
        raise Faults(NOT_FINITE)
    return int(number)


def _flag(value: Any) -> Any:
    match _alone(value):
        case bool(flag):
            return flag
        case "false" | None:
            return False
        case "true":
            return True
        case int(number) | float(number) if number in (0, 1):
            return bool(number)
    raise Faults("must be boolean")


def _listed(value: Any) -> Any:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        raise Faults("must be array")
    return [value]


def _members(value: Any) -> Any:
    if not isinstance(value, dict):
        raise Faults("must be object")
    return value


def _size(value: Any) -> Any:
    """Return a size: a number of bytes, or a text with a unit."""
    if value is None or value == "":
        return None
    try:
        number = _whole(value)
        if number >= 0:
            return number
        faults = ["must be >= 0"]
    except Faults as wrong:
        faults = [*wrong.faults]
    if faults == [NO_INTEGER] and not isinstance(value, int | float):
        faults.append(NOT_FINITE)
    try:
        text = _text(value)
        if re.fullmatch(_SIZE, text):
            return text
        faults.append(f'must match pattern "{_SIZE}"')
    except Faults:
        faults.append("must be string")
    raise Faults(*faults, "must match a schema in anyOf")


Text = Annotated[str, BeforeValidator(_text)]
OptionalText = Annotated[str | None, BeforeValidator(_text)]
OptionalWhole = Annotated[int | None, BeforeValidator(_whole)]
OptionalFlag = Annotated[bool | None, BeforeValidator(_flag)]
Whole = Annotated[int, BeforeValidator(_whole)]
Texts = Annotated[list[Text], BeforeValidator(_listed)]
Size = Annotated[int | str | None, BeforeValidator(_size)]

AS_TEXT = BeforeValidator(_text)
"""For a text that is one of several."""

AS_OBJECT = BeforeValidator(_members)
"""For an object within another."""
