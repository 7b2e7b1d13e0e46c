"""Notes as the full-stack FastAPI template writes its items: SQLModel, `def` routes, psycopg.

One synchronous session a request, and the read model named as the response model. What differs from
the template helps it: a connection pool that holds every connection it opens, no user to look up,
and a list without the template's second statement, which counts all rows.
"""

# mypy: disable-error-code="import-not-found, misc, arg-type"
from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import DateTime
from sqlmodel import Field, Session, SQLModel, col, create_engine, select

engine = create_engine(
    os.environ["DATABASE_URL"],
    pool_size=int(os.environ["POOL_SIZE"]),
    max_overflow=0,
)


class NoteBase(SQLModel):
    """What a note and its read model share."""

    title: str
    stars: int


class Note(NoteBase, table=True):
    """The table."""

    __tablename__ = "notes"

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    owner_id: uuid.UUID
    created_at: datetime = Field(sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(sa_type=DateTime(timezone=True))


class NotePublic(NoteBase):
    """The response of a read."""

    id: uuid.UUID
    owner_id: uuid.UUID
    created_at: datetime
    updated_at: datetime


class NotesPublic(SQLModel):
    """The response of a list."""

    data: list[NotePublic]


def get_db() -> Iterator[Session]:
    """One session a request."""
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_db)]
app = FastAPI()


@app.get("/notes", response_model=NotesPublic)
def read_notes(session: SessionDep, skip: int = 0, limit: int = 100) -> Any:
    """The newest notes."""
    newest = select(Note).order_by(col(Note.created_at).desc(), col(Note.id).desc())
    notes = session.exec(newest.offset(skip).limit(limit)).all()
    return NotesPublic(data=notes)


@app.get("/notes/{id}", response_model=NotePublic)
def read_note(session: SessionDep, id: uuid.UUID) -> Any:
    """One note by id."""
    note = session.get(Note, id)
    if not note:
        raise HTTPException(status_code=404, detail="Note not found")
    return note


@app.get("/health")
def health() -> dict[str, str]:
    """Say that the application has started."""
    return {"status": "ok"}
