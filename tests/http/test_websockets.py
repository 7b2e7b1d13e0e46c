"""WebSocket routes ask for the caller, the user, rows and a session as other routes do."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serving import serving
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

ANN = {"email": "ann@example.com", "password": "correct horse battery"}
APPLICATION = """
from typing import Annotated

from fastapi import FastAPI, WebSocket
from sqlalchemy import select
from sqlalchemy.orm import Mapped

from amphibase import (
    Amphibase, Base, CurrentCaller, CurrentUser, NotFound, Owned, Repository, Session, User
)


class Note(Owned, Base):
    __tablename__ = "notes"
    title: Mapped[str]


db = Amphibase()
app = db.mount(FastAPI())


@app.websocket("/caller")
async def caller(websocket: WebSocket, caller: CurrentCaller):
    await websocket.accept()
    await websocket.send_text(caller.role)


@app.websocket("/user")
async def user(websocket: WebSocket, user: CurrentUser):
    await websocket.accept()
    await websocket.send_text(user.email)


@app.websocket("/notes")
async def add(
    websocket: WebSocket,
    notes: Annotated[Repository[Note], db.repository(Note)],
    session: Session,
):
    await websocket.accept()
    note = await notes.add(Note(title=await websocket.receive_text()))
    emails = (await session.scalars(select(User.email))).all()
    await websocket.send_json([note.title, *emails])


@app.websocket("/late")
async def late(websocket: WebSocket):
    await websocket.accept()
    raise NotFound
"""


@dataclass
class Server:
    """A served application, and the token of a user who is signed in."""

    url: str
    token: str

    def connect(self, path: str, **options: Any) -> ClientConnection:
        return connect(f"{self.url.replace('http', 'ws')}{path}", **options)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("websockets")
    (folder / "main.py").write_text(APPLICATION)
    with serving(folder, {}, "main:app") as url:
        token = httpx.post(f"{url}/auth/sign-up", json=ANN).json()["access_token"]
        yield Server(url, token)
    assert token not in (folder / "server.log").read_text()


@pytest.mark.parametrize("place", ["header", "query"])
def test_a_route_knows_who_opens_it(server: Server, place: str) -> None:
    """A browser cannot set headers of a WebSocket."""
    headers = {"Authorization": f"Bearer {server.token}"} if place == "header" else {}
    query = f"?access_token={server.token}" if place == "query" else ""
    with server.connect(f"/caller{query}", additional_headers=headers) as opened:
        assert opened.recv() == "authenticated"
    with server.connect(f"/user{query}", additional_headers=headers) as opened:
        assert opened.recv() == "ann@example.com"


def test_a_token_in_the_query_opens_nothing_else(server: Server) -> None:
    response = httpx.get(f"{server.url}/users/me?access_token={server.token}")
    assert response.status_code == 401


def test_a_route_has_rows_and_a_session(server: Server) -> None:
    with server.connect(f"/notes?access_token={server.token}") as opened:
        opened.send("one")
        assert json.loads(opened.recv()) == ["one", "ann@example.com"]


@pytest.mark.parametrize(
    ("path", "code"), [("/user", "not_authenticated"), ("/caller?access_token=x", "invalid_token")]
)
def test_the_handshake_is_denied_by_the_error(server: Server, path: str, code: str) -> None:
    with pytest.raises(InvalidStatus) as denied:
        server.connect(path)
    response = denied.value.response
    assert response.body is not None
    assert (response.status_code, json.loads(response.body)["code"]) == (401, code)


def test_an_open_connection_is_closed_by_an_error(server: Server) -> None:
    with server.connect("/late") as opened, pytest.raises(ConnectionClosedError) as closed:
        opened.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_nobody_signed_in_is_anonymous(server: Server) -> None:
    with server.connect("/caller") as opened:
        assert opened.recv() == "anon"
