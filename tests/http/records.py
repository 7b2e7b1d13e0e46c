"""The application that the tests of records ask, and what they ask of its answers."""

from functools import cache
from typing import Annotated, Any

import httpx
from fastapi import FastAPI
from pydantic import BaseModel
from tests.column_models import Kinds
from tests.conftest import SECRET
from tests.models import Author, Board, Book, Comment, Document, Draft, Note, Post

from amphibase import Amphibase, Repository, Settings, load_settings
from amphibase.testing.client import Client

ROUTED = (Note, Post, Board, Draft, Document, Kinds, Author, Book, Comment)


class NewNote(BaseModel):
    title: str
    stars: int = 0


def records_app(settings: Settings) -> FastAPI:
    """The README's routes at /mine, and the ready routes of each model."""
    db = Amphibase(settings)
    app = db.mount(FastAPI())
    rows = db.repository(Note)

    @app.post("/mine", status_code=201, response_model=db.schema(Note))
    async def add(new: NewNote, notes: Annotated[Repository[Note], rows]) -> Any:
        return await notes.add(Note(**new.model_dump()))

    @app.get("/mine", response_model=list[db.schema(Note)])  # type: ignore[misc]
    async def mine(notes: Annotated[Repository[Note], rows]) -> Any:
        return await notes.list(Note.stars > 3, limit=20)

    for model in ROUTED:
        app.include_router(db.router(model, aggregates=True))
    return app


@cache
def _shared_app() -> FastAPI:
    return records_app(load_settings(secret_key=SECRET))


def shared_records_app(settings: Settings) -> FastAPI:
    """Return one application for all tests that add nothing to it, with a test's own settings.

    Its routes are built once: that takes longer than most of the tests do.
    """
    app = _shared_app()
    db_of(app).use(settings)
    return app


def db_of(app: FastAPI) -> Amphibase:
    db: Amphibase = app.state.amphibase
    return db


async def add(client: Client, path: str, **values: Any) -> Any:
    response = await client.post(path, json=values)
    assert response.status_code == 201, response.text
    return response.json()


async def titles(client: Client, path: str) -> list[str]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return [item["title"] for item in response.json()["items"]]


def check(response: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    """The answer is a problem of that kind, and names the field."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert response.json()["errors"][0]["field"] == field
