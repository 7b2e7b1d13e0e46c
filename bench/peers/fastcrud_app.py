"""Notes by fastcrud, in endpoints of one's own as its documentation shows them.

SQLAlchemy async with asyncpg and one session a request. What differs from the documentation helps
it: a connection pool that holds every connection it opens, a list without the statement that counts
all rows, and a response model, with which FastAPI serialises faster than without.
"""

# mypy: disable-error-code="import-not-found, misc"
from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastcrud import FastCRUD
from pydantic import BaseModel
from sqlalchemy import DateTime
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine(
    os.environ["DATABASE_URL"],
    pool_size=int(os.environ["POOL_SIZE"]),
    max_overflow=0,
)
session_maker = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The declarative base."""


class Note(Base):
    """The table."""

    __tablename__ = "notes"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID]
    title: Mapped[str]
    stars: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class NoteRead(BaseModel):
    """The response of a read."""

    id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    stars: int
    created_at: datetime
    updated_at: datetime


class Notes(BaseModel):
    """The response of a list."""

    data: list[NoteRead]


async def get_session() -> AsyncIterator[AsyncSession]:
    """One session a request."""
    async with session_maker() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]
app = FastAPI()
note_crud = FastCRUD(Note)


@app.get("/notes", response_model=Notes)
async def read_notes(db: SessionDep, offset: int = 0, limit: int = 100) -> Any:
    """The newest notes."""
    return await note_crud.get_multi(
        db,
        offset=offset,
        limit=limit,
        schema_to_select=NoteRead,
        sort_columns=["created_at", "id"],
        sort_orders=["desc", "desc"],
        return_total_count=False,
    )


@app.get("/notes/{id}", response_model=NoteRead)
async def read_note(db: SessionDep, id: uuid.UUID) -> Any:
    """One note by id."""
    note = await note_crud.get(db, schema_to_select=NoteRead, id=id)
    if not note:
        raise HTTPException(status_code=404, detail="Note not found")
    return note


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that the application has started."""
    return {"status": "ok"}
