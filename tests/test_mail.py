"""Mail over a real SMTP conversation."""

import asyncio
from email import message_from_bytes

from amphibase import load_settings
from amphibase.mail import build_letters, build_mailer


async def test_a_letter_arrives_at_the_server_that_the_setting_names() -> None:
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        in_data = False
        while line := await reader.readline():
            if in_data:
                if line == b".\r\n":
                    in_data = False
                    writer.write(b"250 taken\r\n")
                else:
                    received.append(line)
            elif line.upper().startswith(b"DATA"):
                in_data = True
                writer.write(b"354 go on\r\n")
            elif line.upper().startswith(b"QUIT"):
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 fine\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = load_settings(mail_url=f"smtp://127.0.0.1:{port}?from=hello@example.com")
    letter = build_letters(settings).confirmation("ann@example.com", "a-token")
    async with server:
        await build_mailer(settings).send(letter)
    message = message_from_bytes(b"".join(received))
    assert message["To"] == "ann@example.com"
    assert message["From"] == "hello@example.com"
    assert "/auth/email/verify?token=a-token" in str(message.get_payload())
