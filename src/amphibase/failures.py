"""What whoever runs an application is told of an expected failure, in a line.

A response says less: where the data is, and what a database said, is not for clients.
"""

from collections.abc import Callable

from amphibase.errors import AmphibaseError, Forbidden, Unavailable
from amphibase.redaction import redact
from amphibase.settings.application import Settings

SIGN_IN_REJECTED = "The database rejected the sign-in; compare user, password and name in its URL"


def failure_text(error: AmphibaseError, read_settings: Callable[[], Settings]) -> str:
    """Return what happened, to which database or service, and what that one said.

    Args:
        read_settings: called where the text is to say where the data is.
    """
    is_rejected = isinstance(error, Forbidden | Unavailable)
    if not is_rejected and not isinstance(error.__cause__, Unavailable):
        return error.detail
    from amphibase.database.reasons import is_sign_in_rejected

    cause = _cause(error)
    reason = _reason(cause)
    text = SIGN_IN_REJECTED if is_sign_in_rejected(cause) else error.detail
    if isinstance(error, Unavailable) or (is_rejected and reason):
        from amphibase.settings.locations import locations

        text += f" ({locations(read_settings())})"
    return f"{text}: {reason}" if reason and reason not in text else text


def _cause(error: BaseException | None) -> BaseException | None:
    while isinstance(error, AmphibaseError):
        error = error.__cause__
    return error


def _reason(cause: BaseException | None) -> str:
    """Return what the database or service said, or the network on the way there."""
    from amphibase.database.reasons import reason_of

    if cause is None:
        return ""
    return reason_of(cause) or redact(str(cause).partition("\n")[0])
