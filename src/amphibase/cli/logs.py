"""How the server's log looks: lines for people in development, JSON in production."""

import logging
import sys
from typing import Any

import orjson
from rich.console import Console
from rich.logging import RichHandler

FIELDS = ("request_id", "method", "path", "status", "ms", "client")


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for field in FIELDS:
            if field in record.__dict__:
                line[field] = record.__dict__[field]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logs(environment: str) -> None:
    """Send everything to standard error."""
    handler: logging.Handler
    if environment == "production":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
    else:
        handler = RichHandler(
            console=Console(stderr=True), show_path=False, omit_repeated_times=False
        )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
