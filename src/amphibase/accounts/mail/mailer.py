"""Where email goes: an SMTP server, or an outbox folder."""

import asyncio
import ssl
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from amphibase.column_defaults import uuid7
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.loopback import is_loopback

if TYPE_CHECKING:  # the gateway needs none of the application's settings
    from amphibase.settings.application import Settings

SMTP_TIMEOUT_SECONDS = 20


class Mailer(Protocol):
    """Delivers email."""

    async def send(self, message: EmailMessage) -> None:
        """Deliver the message.

        Raises:
            Unavailable: the mail server cannot be reached, or rejects the message; says why.
        """


class Outbox:
    """Writes email as `.eml` files into a folder, for development and tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def send(self, message: EmailMessage) -> None:
        await asyncio.to_thread(self._write, bytes(message))

    def _write(self, content: bytes) -> None:
        # Email holds tokens: only the owner may read it.
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"{uuid7()}.eml"
        unfinished = path.with_suffix(".unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(content)
        unfinished.replace(path)  # whoever looks for emails finds whole ones


class Smtp:
    """Sends through an SMTP server.

    Args:
        url: `smtp://user:password@host:587?from=address` (STARTTLS where the server offers it)
            or `smtps://…:465`. A password is sent to another host over TLS only.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ConfigurationError(
                "MAIL_URL: names no host, for example "
                "MAIL_URL=smtp://user:password@mail.example.com:587?from=hello@example.com"
            )
        self._host = parts.hostname
        self._tls = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._tls else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    @cached_property
    def _tls_context(self) -> ssl.SSLContext:
        """The system's certificates: to read them takes as long as to send a message."""
        return ssl.create_default_context()

    async def send(self, message: EmailMessage) -> None:
        in_the_clear = self._tls is False and not is_loopback(self._host)
        import aiosmtplib

        try:
            await aiosmtplib.send(
                message,
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._tls,
                # A password goes over TLS or not at all; else TLS is used where it is offered.
                start_tls=True if self._password and in_the_clear else None,
                tls_context=self._tls_context,
                timeout=SMTP_TIMEOUT_SECONDS,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            server = f"{self._host}:{self._port}"
            raise Unavailable(f"The mail server {server} takes no email: {error}") from error


def build_mailer(settings: "Settings") -> Mailer:
    """Return the mailer that `MAIL_URL` names; without it an outbox folder in DATA_DIR."""
    url = settings.mail_url.get_secret_value() if settings.mail_url else ""
    if not url:
        return Outbox(settings.data_dir / "outbox")
    if url.startswith("file://"):
        return Outbox(Path(unquote(urlsplit(url).path)))
    return Smtp(url)


def sender_address(settings: "Settings") -> str:
    """Return the From address: `from` of `MAIL_URL`, else no-reply at the host of PUBLIC_URL."""
    query = urlsplit(settings.mail_url.get_secret_value()).query if settings.mail_url else ""
    sender = parse_qs(query).get("from", [""])[0]
    host = urlsplit(settings.public_url).hostname or "localhost"
    return sender or f"no-reply@{host}"
