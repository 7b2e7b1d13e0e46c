"""How the tests speak to Auth."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.inbox import Inbox
from amphibase.gateway.keys import api_key

SECRET = "a shared secret of the tests with more than thirty-two bytes"
API_VERSION = "2024-01-01"
PASSWORD = "correct horse battery"
SERVICE = api_key(SECRET, "service_role")
ANON = api_key(SECRET, "anon")


@dataclass
class Api:
    """One running Auth."""

    url: str
    tokens: KeyRing
    inbox: Inbox
    database: str
    below: str = ""
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.AsyncClient(base_url=self.url + self.below, timeout=60)

    async def close(self) -> None:
        await self.client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request as the clients do: with the version of the API."""
        sent = {"x-supabase-api-version": API_VERSION, "apikey": ANON, **(headers or {})}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        return await self.client.request(method, path, json=body, headers=sent)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("POST", path, body, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("PUT", path, body, **options)

    async def delete(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("DELETE", path, body, **options)

    async def sign_up(self, email: str = "ann@example.com", **more: Any) -> dict[str, Any]:
        """Sign up; the answer, which has to be a success."""
        response = await self.post("/signup", {"email": email, "password": PASSWORD, **more})
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def sign_in(
        self, email: str = "ann@example.com", password: str = PASSWORD
    ) -> httpx.Response:
        return await self.post("/token?grant_type=password", {"email": email, "password": password})

    async def refresh(self, token: str) -> httpx.Response:
        return await self.post("/token?grant_type=refresh_token", {"refresh_token": token})

    async def create(self, email: str | None = "ann@example.com", **more: Any) -> dict[str, Any]:
        """Make a confirmed user as an administrator; the user."""
        body = {"email": email, "password": PASSWORD, "email_confirm": True, **more}
        response = await self.post("/admin/users", body, token=SERVICE)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def ban(self, id: str, duration: str = "24h") -> None:
        response = await self.put(f"/admin/users/{id}", {"ban_duration": duration}, token=SERVICE)
        assert response.status_code == 200, response.text

    def message(self, to: str = "ann@example.com") -> "Message":
        """The latest email to an address."""
        text = next(each["text"] for each in self.inbox.emails() if each["to"] == [to])
        link = re.search(r"https?://\S+", text)
        code = re.search(r"^(?:Or enter the code: )?(\d{6,10})$", text, re.MULTILINE)
        assert code is not None
        return Message(link[0] if link else "", code[1])

    async def mailpit(self, path: str) -> httpx.Response:
        """What Mailpit's API says of the emails."""
        transport = httpx.ASGITransport(app=self.inbox)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(f"/api/v1/{path}")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database holds, or does."""
        with psycopg.connect(self.database) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Message:
    link: str
    code: str

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.link).query)["token"][0]


def time_of(text: str) -> datetime:
    """Return the time of a timestamp; texts do not compare, since zeros at the end are left out."""
    return datetime.fromisoformat(text)


def rejection(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    return response.status_code, response.json()["code"]
