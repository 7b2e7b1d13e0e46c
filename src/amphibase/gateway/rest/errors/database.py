"""Errors of Postgres: the SQLSTATE is the code, and decides the status."""

from collections.abc import Sequence
from typing import Any

from amphibase.gateway.rest.errors.base import FINAL_STATUSES, Header, RestError

INSUFFICIENT_PRIVILEGE = "42501"
GROUPING_ERROR = "42803"


class DatabaseError(RestError):
    """An error of Postgres; its code is the SQLSTATE."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Any = None,
        hint: str | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        super().__init__(message, details, hint)
        self._status_and_code = (status, code)
        self._headers = headers

    @property
    def headers(self) -> Sequence[Header]:
        return self._headers

    @property
    def status(self) -> int:  # type: ignore[override]  # of this class each error has its own
        return self._status_and_code[0]

    @property
    def code(self) -> str:  # type: ignore[override]
        return self._status_and_code[1]


_STATUS = {
    "23503": 409, "23505": 409, "25006": 405, "53400": 500, "57P01": 503, "P0001": 400,
    "42883": 404, "42P01": 404, "42P17": 500,
}  # fmt: skip
_STATUS_OF_CLASS = {
    "08": 503, "09": 500, "0L": 403, "0P": 403, "25": 500, "28": 403, "2D": 500, "38": 500,
    "39": 500, "3B": 500, "40": 500, "53": 503, "54": 500, "55": 500, "57": 500, "58": 500,
    "F0": 500, "HV": 500, "P0": 500, "XX": 500,
}  # fmt: skip


def status_of_sqlstate(state: str, message: str, *, is_authenticated: bool) -> int:
    """Return the HTTP status of an error of Postgres.

    Args:
        state: the SQLSTATE, such as "23505".
        message: decides where a state has two meanings.
        is_authenticated: whether the request had a role of its own, not the anonymous one.
    """
    if state == INSUFFICIENT_PRIVILEGE:
        return 403 if is_authenticated else 401
    if state.startswith("PT"):
        own = int(state[2:]) if state[2:].isdigit() else 0
        return own if own in FINAL_STATUSES else 500
    if state == "21000":
        return 400 if message.endswith("requires a WHERE clause") else 500
    if state == "22023" and message.startswith("role") and message.endswith("does not exist"):
        return 401
    if state == "42883" and message.startswith("function xmlagg("):
        return 406
    return _STATUS.get(state) or _STATUS_OF_CLASS.get(state[:2], 400)
