"""Servers and clients of streams in tests."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from tests.conftest import SECRET
from tests.serving import serving

APPLICATION = """
from typing import Annotated

from fastapi import FastAPI, WebSocket
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, ChangeFeed, Owned


class Chore(Owned, Base):
    __tablename__ = "chores"
    __changes__ = True
    title: Mapped[str]
    stars: Mapped[int]


db = Amphibase()
app = db.mount(FastAPI())
app.include_router(db.router(Chore))
Chores = Annotated[ChangeFeed[Chore], db.changes(Chore)]


@app.get("/good")
async def good(chores: Chores):
    return chores.response(Chore.stars > 3)


@app.websocket("/good")
async def good_over_websocket(websocket: WebSocket, chores: Chores):
    await chores.serve(websocket, Chore.stars > 3)
"""
SECONDS = 60
ANN = {"email": "ann@example.com", "password": "correct horse battery"}
BOB = {"email": "bob@example.com", "password": "correct horse battery"}


@dataclass
class Server:
    """A served application and its database, with a user who is signed in."""

    url: str
    database_url: str
    tokens: dict[str, Any]
    table: str = "chores"

    @property
    def user_id(self) -> UUID:
        return UUID(self.tokens["user"]["id"])

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def write(self, title: str, stars: int = 5, owner: UUID | None = None) -> UUID:
        """Add a row as another process does, without Amphibase."""
        id = uuid4()
        values = (id, owner or self.user_id, title, stars)
        mark = "?" if self.database_url.startswith("sqlite") else "%s"
        marks = ", ".join([mark] * len(values))
        sql = f"INSERT INTO {self.table} (id, owner_id, title, stars) VALUES ({marks})"
        if self.database_url.startswith("sqlite"):
            path = self.database_url.removeprefix("sqlite:///")
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                raw = [each.hex if isinstance(each, UUID) else each for each in values]
                connection.execute(sql, raw)
        else:
            with psycopg.connect(self.database_url) as postgres:
                postgres.execute(sql.encode(), values)
        return id

    @contextlib.contextmanager
    def stream(self, path: str = "/chores/changes", **headers: str) -> Iterator["Stream"]:
        with (
            httpx.Client(timeout=SECONDS) as client,
            client.stream("GET", self.url + path, headers={**self.headers, **headers}) as response,
        ):
            yield Stream(response)


class Stream:
    """Reads server-sent events as a browser does (HTML Standard, section 9.2.6)."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, Any]:
        """Return the name and the data of the next event."""
        name, data = "message", ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data += value
            elif not line and data:
                return name, json.loads(data)
        raise EOFError


@contextlib.contextmanager
def served(folder: Path, database_url: str, more: str = "", **settings: str) -> Iterator[Server]:
    """Serve the application on a database, and sign Ann in."""
    environment = {"DATABASE_URL": database_url, "SECRET_KEY": SECRET, "RATE_LIMITS": "off"}
    (folder / "main.py").write_text(APPLICATION + more)
    with serving(folder, {**environment, **settings}, "main:app") as url:
        yield Server(url, database_url, signed_in(url))


def signed_in(url: str) -> dict[str, Any]:
    """Sign Ann up or in; return her tokens, when her profile is there."""
    response = httpx.post(f"{url}/auth/sign-up", json=ANN)
    if response.status_code == 400:
        response = httpx.post(f"{url}/auth/sign-in", json=ANN)
    tokens: dict[str, Any] = response.json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    httpx.get(f"{url}/users/me", headers=headers).raise_for_status()
    return tokens
