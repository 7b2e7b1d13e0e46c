"""Redaction of logs: what lets its reader in, in query parameters, headers and the user of a URL.

URLs are logged by servers and clients that nobody configures, and a one-time link, a signed URL or
a WebSocket's address carries its secret in the query string.
"""

import logging
import re
from typing import Any
from urllib.parse import unquote_plus

REDACTED = "[redacted]"

_ANYWHERE = (
    "accesskey", "apikey", "assertion", "credential", "jwt", "passw", "secret", "session",
    "signature", "token", "verifier",
)  # fmt: skip
"""Of a name without its separators: `access_token`, `X-Amz-Signature`, `client_secret` …"""

_WORDS = {"auth", "authorization", "code", "cookie", "nonce", "otp", "pwd", "sig"}
"""As a word of a name: `code`, `email_otp`, but not `barcode`."""

_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?\s\"'<>]{1,200})=([^&;#\s\"'<>]+)")
_PASSWORD = re.compile(r"(://[^\s/?#@:]*):[^\s/?#@]+@")
"""Of the user in a URL, `https://ann:secret@example.com`."""

_ROW = re.compile(r"(Failing row contains \().*?\)(?=\.?\s*(?:$|\n[A-Z(\[]))", re.DOTALL)
"""What Postgres says of a row that a constraint rejects: all of it, hashes of passwords too."""

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_FORMATTER = logging.Formatter()

LOGGERS = ("uvicorn.access", "uvicorn.error", "httpx")
"""uvicorn writes the query string of each request, and of each WebSocket even without an access
log; httpx that of each request that an application sends."""


def is_secret_name(name: str) -> bool:
    """Return whether the value of a query parameter or header may not be logged."""
    words = _SEPARATORS.split(unquote_plus(name).lower())
    joined = "".join(words)
    return any(part in joined for part in _ANYWHERE) or not _WORDS.isdisjoint(words)


def redact(text: str) -> str:
    """Replace the secrets of a text's URLs and paths, and rows of a database."""
    if "Failing row" in text:
        text = _ROW.sub(rf"\1{REDACTED})", text)
    if "@" in text:
        text = _PASSWORD.sub(rf"\1:{REDACTED}@", text)
    if "=" not in text:
        return text
    return _PARAMETER.sub(_redact_parameter, text)


def _redact_parameter(match: re.Match[str]) -> str:
    name, value = match.groups()
    if is_secret_name(name):
        return f"{name}={REDACTED}"
    decoded = unquote_plus(value)  # an address to return to, perhaps, with a query of its own
    return match[0] if (redacted := redact(decoded)) == decoded else f"{name}={redacted}"


class RedactingFilter(logging.Filter):
    """Redacts the message, the arguments and the traceback of each record, and drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "is_redacted" in record.__dict__:  # by the filter of its logger, before the handler's
            return True
        record.is_redacted = True
        if isinstance(record.msg, str):
            record.msg = redact(record.msg)
        arguments = record.args
        if isinstance(arguments, tuple):
            if _is_header(arguments):  # as the WebSocket library logs each while debugging
                arguments = (arguments[0], REDACTED)
            record.args = tuple(_redact_argument(argument) for argument in arguments)
        elif isinstance(arguments, dict):
            record.args = {name: _redact_argument(value) for name, value in arguments.items()}
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            record.exc_text = redact(_FORMATTER.formatException(record.exc_info))
        return True


def _is_header(arguments: tuple[object, ...]) -> bool:
    return len(arguments) == 2 and isinstance(arguments[0], str) and is_secret_name(arguments[0])


def _redact_argument(argument: Any) -> Any:
    if argument is None or isinstance(argument, int | float):
        return argument
    text = str(argument)  # of a URL or an exception, too
    return argument if (redacted := redact(text)) == text else redacted


def redact_logs() -> None:
    """Keep secrets out of the logs of uvicorn and httpx; calling it again changes nothing."""
    for name in LOGGERS:
        redacted_logger(name)


def redacted_logger(name: str) -> logging.Logger:
    """Return the logger of that name, whose records hold no secrets, whatever handles them.

    Each logger needs the filter: those of a parent do not see the records of its children.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(each, RedactingFilter) for each in logger.filters):
        logger.addFilter(RedactingFilter())
    return logger
