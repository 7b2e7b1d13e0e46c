"""Mailpit's API, by which the tests of projects read their emails."""

import re
from email.message import EmailMessage

import httpx
import pytest

from amphibase.accounts.mail.templates import compose
from amphibase.gateway.inbox import MAX_BODY_BYTES, Inbox

LINK = "http://127.0.0.1:54321/auth/v1/verify?token=abc&type=signup"


def email(to: str, subject: str, text: str) -> EmailMessage:
    return compose("Shop <shop@example.com>", to, subject, text, host="example.com")


@pytest.fixture
def inbox() -> Inbox:
    inbox = Inbox()
    inbox.put(email("ann@example.com", "Confirm your address", f"Hello Ann\n\n{LINK}\n"))
    inbox.put(email("bob@example.com", "Your code", "The code is 123456."))
    return inbox


@pytest.fixture
def client(inbox: Inbox) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(inbox), base_url="http://127.0.0.1/api/v1"
    )


async def subjects(client: httpx.AsyncClient, url: str) -> list[str]:
    response = await client.get(url)
    assert response.status_code == 200, response.text
    return [each["Subject"] for each in response.json()["messages"]]


async def test_messages_are_listed_newest_first_with_counts(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/messages?limit=1")).json()
    (summary,) = listed.pop("messages")
    assert listed == {
        "total": 2,
        "unread": 2,
        "count": 1,
        "messages_count": 2,
        "messages_unread": 2,
        "start": 0,
        "tags": [],
    }
    assert summary["To"] == [{"Name": "", "Address": "bob@example.com"}]
    assert summary["From"] == {"Name": "Shop", "Address": "shop@example.com"}
    assert (summary["Subject"], summary["Snippet"]) == ("Your code", "The code is 123456.")
    assert (summary["Read"], summary["Cc"], summary["Attachments"]) == (False, [], 0)
    assert summary["Created"].startswith("20")
    assert await subjects(client, "/messages?start=1") == ["Confirm your address"]


async def test_a_message_has_its_text_and_its_links_and_is_read_then(
    client: httpx.AsyncClient,
) -> None:
    (listed,) = (await client.get("/search?query=to:ann@example.com")).json()["messages"]
    message = (await client.get(f"/message/{listed['ID']}")).json()
    assert message["Text"].splitlines()[0] == "Hello Ann"
    assert re.findall('href="([^"]+)"', message["HTML"]) == [LINK.replace("&", "&amp;")]
    assert message["ReturnPath"] == "shop@example.com"
    assert (await client.get("/messages")).json()["unread"] == 1
    assert (await client.get("/message/latest")).json()["Subject"] == "Your code"
    headers = (await client.get("/message/latest/headers")).json()
    assert headers["To"] == ["bob@example.com"]
    raw = await client.get("/message/latest/raw")
    assert raw.headers["content-type"].startswith("text/plain")
    assert "The code is 123456." in raw.text


@pytest.mark.parametrize(
    ("query", "recipients"),
    [
        ("to:ann@example.com", ["ann"]),
        ('to:"BOB@example.com"', ["bob"]),
        ('subject:"your address"', ["ann"]),
        ("from:shop", ["bob", "ann"]),
        ("addressed:bob", ["bob"]),
        ("code", ["bob"]),
        ("hello ann", ["ann"]),
        ("hello code", []),
        ("-to:ann@example.com", ["bob"]),
        ("!code example", ["ann"]),
        ("is:unread", ["bob", "ann"]),
        ("is:read", []),
        ("tag:backups", []),
    ],
)
async def test_a_search_finds_what_all_of_its_terms_hold_of(
    client: httpx.AsyncClient, query: str, recipients: list[str]
) -> None:
    found = (await client.get("/search", params={"query": query})).json()
    addresses = [message["To"][0]["Address"] for message in found["messages"]]
    assert addresses == [f"{name}@example.com" for name in recipients]
    assert (found["messages_count"], found["total"]) == (len(recipients), 2)


async def test_messages_are_deleted_by_id_by_search_or_all(
    client: httpx.AsyncClient, inbox: Inbox
) -> None:
    newest = (await client.get("/message/latest")).json()["ID"]
    deleted = await client.request("DELETE", "/messages", json={"IDs": [newest, "another"]})
    assert (deleted.status_code, deleted.text) == (200, "ok")
    assert await subjects(client, "/messages") == ["Confirm your address"]
    assert (await client.delete("/search?query=to:bob@example.com")).text == "ok"
    assert len(inbox.emails()) == 1
    assert (await client.delete("/search?query=hello")).text == "ok"
    assert inbox.emails() == []
    inbox.put(email("eva@example.com", "One", "more"))
    assert (await client.delete("/messages")).text == "ok"
    assert inbox.emails() == []


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("", []),
        ("{}", []),
        ('{"IDs": []}', []),
        ('{"ids": ["another"]}', ["Your code", "Confirm your address"]),
    ],
)
async def test_all_are_deleted_where_no_id_is_named(
    client: httpx.AsyncClient, body: str, left: list[str]
) -> None:
    assert (await client.request("DELETE", "/messages", content=body)).text == "ok"
    assert await subjects(client, "/messages") == left


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '{"ID": ["one"]}',
        '{"IDs": null}',
        '{"IDs": "one"}',
        '{"IDs": [1]}',
        "[" * 50_000,
        f'{{"IDs": ["{"x" * MAX_BODY_BYTES}"]}}',
        b"\xff",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_body_that_is_not_understood_deletes_nothing(
    client: httpx.AsyncClient, inbox: Inbox, body: str | bytes
) -> None:
    response = await client.request("DELETE", "/messages", content=body)
    assert (response.status_code, len(inbox.emails())) == (400, 2)


@pytest.mark.parametrize("number", ["9" * 5_000, "-1", "many", ""])
async def test_a_number_that_is_none_is_ignored(client: httpx.AsyncClient, number: str) -> None:
    assert len(await subjects(client, f"/messages?start={number}&limit={number}")) == 2


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:54324", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:54324", 200),
        ("[::1]:54324", 200),
        ("evil.example", 403),
        ("localhost.evil.example:54324", 403),
        ("localhost@evil.example", 403),
        ("192.0.2.1", 403),
        ("[", 403),
        ("", 403),
    ],
)
async def test_without_a_key_only_names_of_this_machine_lead_to_the_inbox(
    client: httpx.AsyncClient, host: str, status: int
) -> None:
    """A browser calls a page at a name that was led here later (DNS rebinding) the same site."""
    headers = {"host": host, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    response = await client.get("/messages", headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/search", 400),
        ("DELETE", "/search?query=%20", 400),
        ("GET", "/message/none", 404),
        ("GET", "/message/latest/part/1", 404),
        ("GET", "/nothing", 404),
        ("POST", "/messages", 405),
    ],
)
async def test_what_is_not_there_has_a_status(
    client: httpx.AsyncClient, inbox: Inbox, method: str, path: str, status: int
) -> None:
    assert (await client.request(method, path)).status_code == status
    assert len(inbox.emails()) == 2


async def test_an_inbox_with_a_key_keeps_it_here_too_and_has_any_name() -> None:
    transport = httpx.ASGITransport(Inbox("the key"))
    async with httpx.AsyncClient(transport=transport, base_url="http://mail") as client:
        for method, path in (("GET", "/api/v1/messages"), ("DELETE", "/api/v1/messages")):
            assert (await client.request(method, path)).status_code == 401
        assert (await client.get("/api/v1/messages", auth=("", "the key"))).status_code == 200
