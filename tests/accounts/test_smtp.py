"""Mail over a real SMTP conversation."""

import asyncio
from collections.abc import Awaitable, Callable
from email import message_from_bytes
from email.message import EmailMessage
from typing import Any

import pytest

from amphibase import load_settings
from amphibase.accounts.mail.mailer import Smtp, build_mailer, sender_address
from amphibase.accounts.mail.templates import EmailTemplates
from amphibase.background import Background


def answering(
    received: list[bytes], commands: list[bytes], extensions: bytes = b""
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """An SMTP server that accepts every email, and records it with the commands before it."""

    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        in_data = False
        while line := await reader.readline():
            if in_data:
                if line == b".\r\n":
                    in_data = False
                    writer.write(b"250 taken\r\n")
                else:
                    received.append(line)
            elif line.upper().startswith(b"EHLO") and extensions:
                writer.write(b"250-here\r\n250 " + extensions + b"\r\n")
            elif line.upper().startswith((b"MAIL", b"RCPT", b"AUTH")):
                commands.append(line)
                writer.write(b"250 fine\r\n")
            elif line.upper().startswith(b"DATA"):
                in_data = True
                writer.write(b"354 go on\r\n")
            elif line.upper().startswith(b"QUIT"):
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 fine\r\n")
        writer.close()

    return response


async def test_an_email_arrives_at_the_server_that_the_setting_names() -> None:
    received: list[bytes] = []
    server = await asyncio.start_server(answering(received, []), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = load_settings(mail_url=f"smtp://127.0.0.1:{port}?from=hello@example.com")
    message = EmailTemplates(settings.public_url, sender_address(settings)).confirmation(
        "ann@example.com", "a-token"
    )
    async with server:
        await build_mailer(settings).send(message)
    arrived = message_from_bytes(b"".join(received))
    assert arrived["To"] == "ann@example.com"
    assert arrived["From"] == "hello@example.com"
    assert "/auth/email/verify?token=a-token" in str(arrived.get_payload())


@pytest.mark.parametrize(
    ("email", "recipient"),
    [
        ("ann@bücher.example.com", b"ann@xn--bcher-kva.example.com"),
        ("jörg@bücher.example.com", "jörg@xn--bcher-kva.example.com".encode()),
    ],
)
async def test_an_address_of_any_alphabet_is_sent_as_servers_take_it(
    email: str, recipient: bytes
) -> None:
    """A domain goes as the name system has it; only a name before the @ needs SMTPUTF8."""
    commands: list[bytes] = []
    server = await asyncio.start_server(answering([], commands, b"SMTPUTF8"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = load_settings(mail_url=f"smtp://127.0.0.1:{port}?from=hello@example.com")
    message = EmailTemplates(settings.public_url, sender_address(settings)).confirmation(
        email, "a-token"
    )
    async with server:
        await build_mailer(settings).send(message)
    assert commands[1] == b"RCPT TO:<" + recipient + b">\r\n"
    assert (b"SMTPUTF8" in commands[0]) is not recipient.isascii()
    assert b"To: " + recipient + b"\n" in bytes(message)


@pytest.mark.parametrize(
    ("host", "password", "required"),
    [
        ("mail.example.com", "secret", True),
        ("mail.example.com", None, None),
        ("127.0.0.1", "secret", None),
        ("[::1]", "secret", None),
        ("localhost", "secret", None),
    ],
)
async def test_a_password_goes_to_another_host_over_tls_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, host: str, password: str | None, required: bool | None
) -> None:
    """A server that offers no STARTTLS gets no password, except on this machine."""
    items: list[Any] = []

    async def send(*_: Any, **options: Any) -> None:
        items.append(options["start_tls"])

    monkeypatch.setattr("aiosmtplib.send", send)
    user = f"ann:{password}@" if password else ""
    await Smtp(f"smtp://{user}{host}").send(EmailMessage())
    assert items == [required]


async def test_a_mail_server_that_is_down_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "hello@example.com", "ann@example.com"
    background = Background()
    background.run("Sending an email", Smtp("smtp://ann:secret@127.0.0.1:1").send(message))
    await background.settle()
    (record,) = caplog.records
    line = "Sending an email failed: The mail server 127.0.0.1:1 takes no email: "
    assert record.getMessage().startswith(line)
    assert (record.exc_info, "secret" in record.getMessage()) == (None, False)
