"""What whoever runs an application is told while it starts."""

import sys
from typing import TYPE_CHECKING

from starlette.types import Message, Send

from amphibase.errors import AmphibaseError
from amphibase.failures import failure_text
from amphibase.redaction import redacted_logger

if TYPE_CHECKING:
    from amphibase.http.application import Application

logger = redacted_logger("amphibase")


def reporting_in_a_line(send: Send, db: "Application") -> Send:
    """Return what sends the messages of a lifespan (ASGI's "Lifespan Protocol"), and of an expected
    failure of the start one line, where Starlette would send the traceback. Servers log it."""

    async def send_line(message: Message) -> None:
        error = sys.exception()  # Starlette sends it while the error is handled
        if message["type"] == "lifespan.startup.failed" and isinstance(error, AmphibaseError):
            message["message"] = failure_text(error, lambda: db.settings)
        await send(message)

    return send_line


async def report_unavailable(db: "Application") -> None:
    """Log what requests need and cannot have now. The application starts anyway: with the others
    it works, and what is missing may come back."""
    for reach in (db.rate_limiter.reach, db.state.backend.check):
        try:
            await reach()
        except AmphibaseError as error:  # unavailable, full, or rejected by a project
            logger.error("Not ready: %s", failure_text(error, lambda: db.settings))
