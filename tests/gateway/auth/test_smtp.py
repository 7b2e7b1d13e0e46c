"""Where emails go: to a mail server, or to the inbox of development."""

import asyncio
import base64
import re
from email import message_from_bytes
from email.message import EmailMessage

import httpx
import pytest
from tests.accounts.test_smtp import answering
from tests.gateway.auth.api import Api
from tests.gateway.auth.conftest import ServeAuth

from amphibase.accounts.mail.templates import compose
from amphibase.gateway.inbox import MAX_EMAILS, Inbox

HOSTILE = '<script>alert(1)</script> https://example.com/?a=1&b="><img src=x>'


def message(subject: str = "Hello", text: str = "Hello") -> EmailMessage:
    return compose("me@example.com", "ann@example.com", subject, text, host="example.com")


def client_of(inbox: Inbox) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(inbox, root_path="/inbox")
    return httpx.AsyncClient(transport=transport, base_url="http://localhost/inbox")


async def test_emails_go_to_the_mail_server_that_is_configured(serve: ServeAuth) -> None:
    received: list[bytes] = []
    arrived = asyncio.Event()
    talk = answering(received, [])

    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talk(reader, writer)
        arrived.set()

    server = await asyncio.start_server(response, "127.0.0.1", 0)
    async with server:
        api = await serve(
            mailer_autoconfirm=False,
            smtp_host="127.0.0.1",
            smtp_port=server.sockets[0].getsockname()[1],
            smtp_admin_email="hello@example.com",
            smtp_sender_name="Example",
        )
        await api.sign_up()
        await arrived.wait()
    message = message_from_bytes(b"".join(received))
    assert message["From"] == "Example <hello@example.com>"
    assert message["To"] == "ann@example.com"
    text = next(part for part in message.walk() if part.get_content_type() == "text/plain")
    link = re.search(r"http\S+", str(text.get_payload()))
    assert link is not None
    assert (await api.client.get(link[0])).status_code == 303
    assert not api.inbox.emails()


async def test_a_mail_server_that_is_down_is_no_fault_of_the_request(serve: ServeAuth) -> None:
    api: Api = await serve(mailer_autoconfirm=False, smtp_host="127.0.0.1", smtp_port=1)
    await api.sign_up()


async def test_the_inbox_shows_emails_newest_first_as_json() -> None:
    inbox = Inbox()
    inbox.put(message("one"))
    inbox.put(message("two", "A text: ä"))
    async with client_of(inbox) as client:
        messages = (await client.get("/api/messages")).json()["messages"]
        assert [each["subject"] for each in messages] == ["two", "one"]
        assert messages[0]["to"] == ["ann@example.com"]
        assert messages[0]["text"].strip() == "A text: ä"
        assert (await client.delete("/api/messages")).status_code == 204
        assert (await client.get("/api/messages")).json() == {"messages": []}
        assert (await client.post("/api/messages")).status_code == 405
        assert (await client.get("/nothing")).status_code == 404


async def test_nothing_of_an_email_runs_on_the_page() -> None:
    inbox = Inbox()
    inbox.put(message(HOSTILE, HOSTILE))
    async with client_of(inbox) as client:
        page = await client.get("/")
    assert "<script" not in page.text
    assert "<img" not in page.text
    assert '<a href="https://example.com/?a=1&amp;b=' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_the_inbox_forgets_the_oldest() -> None:
    inbox = Inbox()
    for number in range(MAX_EMAILS + 1):
        inbox.put(message(str(number)))
    assert len(inbox.emails()) == MAX_EMAILS
    assert inbox.emails()[-1]["subject"] == "1"


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
async def test_an_inbox_with_a_key_is_shown_to_who_has_it(scheme: str) -> None:
    inbox = Inbox("the key")

    def sent(key: str) -> dict[str, str]:
        metadata = base64.b64encode(f"me:{key}".encode()).decode() if scheme == "Basic" else key
        return {"authorization": f"{scheme} {metadata}"}

    async with client_of(inbox) as client:
        assert (await client.get("/")).status_code == 401
        assert (await client.get("/", headers=sent("another"))).status_code == 401
        assert (await client.get("/", headers=sent("the key"))).status_code == 200
        broken = {"authorization": f"{scheme} =="}
        assert (await client.get("/", headers=broken)).status_code == 401


async def test_pages_of_other_sites_cannot_read_the_inbox() -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    async with client_of(Inbox()) as client:
        assert (await client.get("/api/messages", headers=headers)).status_code == 403
        headers["sec-fetch-mode"] = "navigate"
        assert (await client.get("/", headers=headers)).status_code == 200
