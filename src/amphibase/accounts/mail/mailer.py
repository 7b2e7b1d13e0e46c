"""Mail: what is sent to people, and where it goes (SMTP, or an outbox folder)."""

import asyncio
import ssl
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

import aiosmtplib
from email_validator import EmailNotValidError, validate_email

from amphibase.errors import ConfigurationError
from amphibase.models import uuid7
from amphibase.settings import Settings

SMTP_TIMEOUT_SECONDS = 20


class Mailer(Protocol):
    """Where mail goes."""

    async def send(self, message: EmailMessage) -> None:
        """Deliver the message, or raise."""


class Outbox:
    """Keeps mail as `.eml` files in a folder, for development and tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def send(self, message: EmailMessage) -> None:
        await asyncio.to_thread(self._write, bytes(message))

    def _write(self, content: bytes) -> None:
        # Mail holds tokens: only the owner may read it.
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"{uuid7()}.eml"
        path.touch(mode=0o600)
        path.write_bytes(content)


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

    async def send(self, message: EmailMessage) -> None:
        in_the_clear = self._tls is False and not _is_loopback(self._host)
        await aiosmtplib.send(
            message,
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls,
            # A password goes over TLS or not at all; else TLS is used where it is offered.
            start_tls=True if self._password and in_the_clear else None,
            tls_context=ssl.create_default_context(),
            timeout=SMTP_TIMEOUT_SECONDS,
        )


class Letters:
    """Writes the letters of the accounts.

    Args:
        public_url: the front door that links lead to.
        sender: the From address.
    """

    def __init__(self, public_url: str, sender: str) -> None:
        self._public_url = public_url
        self._sender = sender

    def confirmation(self, email: str, token: str) -> EmailMessage:
        """Asks to confirm the address."""
        return self._letter(
            email,
            "Confirm your email address",
            "Open this link to confirm your email address:",
            f"/auth/email/verify?token={quote(token)}",
        )

    def reset(self, email: str, token: str) -> EmailMessage:
        """Lets the reader choose a new password."""
        return self._letter(
            email,
            "Reset your password",
            "Somebody asked for a new password for your account. Open this link to choose one:",
            f"/auth/password/reset?token={quote(token)}",
        )

    def _letter(self, email: str, subject: str, lead: str, path: str) -> EmailMessage:
        return compose(
            self._sender,
            email,
            subject,
            f"{lead}\n\n{self._public_url}{path}\n\n"
            "The link is good for one hour and for one use. "
            "If you did not ask for it, there is nothing you need to do.\n",
            host=urlsplit(self._public_url).hostname,
        )


def compose(sender: str, email: str, subject: str, text: str, *, host: str | None) -> EmailMessage:
    """A letter.

    Args:
        host: names its id.
    """
    email = _reachable(email)
    message = EmailMessage(policy.default if email.isascii() else policy.default.clone(utf8=True))
    message["From"] = sender
    message["To"] = email
    message["Subject"] = subject
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = make_msgid(domain=host)
    message.set_content(text, cte="8bit")
    return message


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reachable(email: str) -> str:
    """The address with its domain as the name system has it, which every mail server takes."""
    try:
        found = validate_email(email, check_deliverability=False)
    except EmailNotValidError:
        return email
    return found.ascii_email or f"{found.local_part}@{found.ascii_domain}"


def build_mailer(settings: Settings) -> Mailer:
    """The mailer that `MAIL_URL` names; without it an outbox folder in DATA_DIR."""
    url = settings.mail_url.get_secret_value() if settings.mail_url else ""
    if not url:
        return Outbox(settings.data_dir / "outbox")
    if url.startswith("file://"):
        return Outbox(Path(unquote(urlsplit(url).path)))
    return Smtp(url)


def build_letters(settings: Settings) -> Letters:
    """The letters, sent from the address in `MAIL_URL?from=`, else from no-reply at PUBLIC_URL."""
    query = urlsplit(settings.mail_url.get_secret_value()).query if settings.mail_url else ""
    sender = parse_qs(query).get("from", [""])[0]
    host = urlsplit(settings.public_url).hostname or "localhost"
    return Letters(settings.public_url, sender or f"no-reply@{host}")
