"""What the project's own triggers and constraints raise while a service works."""

import re
from dataclasses import dataclass

import psycopg

from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway")

RAISED = frozenset({"P0001", "23000", "23001", "23502", "23503", "23505", "23514", "23P01"})
"""SQLSTATEs of RAISE and of constraints, whose message Supabase Auth hands to the client."""

_STATUS = re.compile(r"PT([2-5]\d\d)")
_FUNCTION = re.compile(r'function ("?[^()]+"?\([^()]*\))')
_MISSING_RIGHT = frozenset({"42501", "42P01", "42883", "3F000"})


@dataclass(frozen=True, slots=True)
class RaisedError:
    """An error that a trigger or a constraint of the project raised, to be shown to the client.

    Attributes:
        code: the SQLSTATE.
        status: of HTTP; a trigger chooses it by `RAISE SQLSTATE 'PT403'`, else it is 500.
    """

    code: str
    status: int
    message: str
    detail: str | None
    hint: str | None

    @property
    def by_trigger(self) -> bool:
        """Whether a function raised it on purpose, and no constraint."""
        return self.code == "P0001" or self.code.startswith("PT")


def driver_error(error: BaseException) -> psycopg.Error | None:
    """Return the error of the driver that another error stands for."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, psycopg.Error):
            return seen
        original = getattr(seen, "orig", None)
        seen = original if isinstance(original, BaseException) else seen.__cause__
    return None


def raised_error(error: BaseException) -> RaisedError | None:
    """Return what the project raised; None for every other error, whose message stays here."""
    original = driver_error(error)
    state = original.sqlstate if original is not None else None
    if original is None or state is None:
        return None
    status = _STATUS.fullmatch(state)
    if status is None and state not in RAISED:
        return None
    diagnostics = original.diag
    return RaisedError(
        state,
        int(status[1]) if status else 500,
        diagnostics.message_primary or "",
        diagnostics.message_detail,
        diagnostics.message_hint,
    )


def log_missing_right(error: BaseException, role: str, search_path: str) -> None:
    """Log which function failed for want of a right or of a schema's name, and what to do.

    Args:
        role: whose rights the function has.
        search_path: the schemas that this role finds things in without their names.
    """
    original = driver_error(error)
    if original is None or original.sqlstate not in _MISSING_RIGHT:
        return
    message = original.diag.message_primary or ""
    context = _FUNCTION.search(original.diag.context or "")
    if context is None:
        if original.sqlstate == "42501" and message.startswith("permission denied for function"):
            logger.error("%s: GRANT EXECUTE on it TO %s", message, role)
        return
    logger.error(
        "The function %s failed: %s. It runs as %s with search_path %s: name the schema of what it "
        "uses, and declare it SECURITY DEFINER SET search_path = '', or GRANT that role its rights",
        context[1],
        message,
        role,
        search_path,
    )
