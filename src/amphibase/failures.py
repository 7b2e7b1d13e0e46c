"""What whoever runs an application is told of an expected failure, in a line.

A response says less: where the data is, and what a database said, is not for clients.
"""

from collections.abc import Callable

from amphibase.errors import AmphibaseError, Forbidden, Unavailable
from amphibase.redaction import redact
from amphibase.settings.application import Settings


def failure_text(error: AmphibaseError, read_settings: Callable[[], Settings]) -> str:
    """Return what happened, to which database or service, and what that one said.

    Args:
        read_settings: called where the text is to say where the data is.
    """
    is_rejected = isinstance(error, Forbidden | Unavailable)
    if not is_rejected and not isinstance(error.__cause__, Unavailable):
        return error.detail
    reason = _reason(error)
    text = error.detail
    if isinstance(error, Unavailable) or (is_rejected and reason):
        from amphibase.settings.locations import locations

        text += f" ({locations(read_settings())})"
    return f"{text}: {reason}" if reason and reason not in text else text


def _reason(error: BaseException | None) -> str:
    """Return what the database or service said, or the network on the way there."""
    from amphibase.database.reasons import reason_of

    while isinstance(error, AmphibaseError):
        error = error.__cause__
    if error is None:
        return ""
    return reason_of(error) or redact(str(error).partition("\n")[0])
