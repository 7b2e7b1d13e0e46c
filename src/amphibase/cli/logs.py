"""How the server's log looks: lines for people in development, JSON in production."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from amphibase.redaction import RedactingFilter

FIELDS = ("request_id", "method", "path", "status", "ms", "client")


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for field in FIELDS:
            if field in record.__dict__:
                line[field] = record.__dict__[field]
        if record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logs(environment: str) -> None:
    """Send everything to standard error, without the secrets of URLs."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if environment == "production":
        handler.setFormatter(JsonLines())
    elif sys.stderr.isatty():
        # Not at the top: a server in production has no use for it.
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(RedactingFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Each start would log the state of the migrations; `db upgrade` prints what it did.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Each request would be logged twice: that of the application, and those it sends to a project.
    logging.getLogger("httpx").setLevel(logging.WARNING)
