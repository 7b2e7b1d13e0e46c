"""Notes by advanced-alchemy: a repository, its service, and the FastAPI extension, as documented.

SQLAlchemy async with asyncpg. What differs from the documentation helps it: a connection pool that
holds every connection it opens, and a list without the count of all rows.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from advanced_alchemy.base import DefaultBase
from advanced_alchemy.extensions.fastapi import (
    AdvancedAlchemy,
    AsyncSessionConfig,
    EngineConfig,
    SQLAlchemyAsyncConfig,
    filters,
    mixins,
    repository,
    service,
)
from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

NEWEST = [filters.OrderBy("created_at", "desc"), filters.OrderBy("id", "desc")]

config = SQLAlchemyAsyncConfig(
    connection_string=os.environ["DATABASE_URL"],
    engine_config=EngineConfig(pool_size=int(os.environ["POOL_SIZE"]), max_overflow=0),
    session_config=AsyncSessionConfig(expire_on_commit=False),
    commit_mode="autocommit",
)
app = FastAPI()
alchemy = AdvancedAlchemy(config=config, app=app)


class Note(mixins.AuditColumns, DefaultBase):
    """The table; the mixin adds both times. UUIDAuditBase would add a sentinel column to them."""

    __tablename__ = "notes"

    id: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4, primary_key=True)
    owner_id: Mapped[uuid.UUID]
    title: Mapped[str]
    stars: Mapped[int]


class NoteRead(BaseModel):
    """The response of a read."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    stars: int
    created_at: datetime
    updated_at: datetime


class NoteService(service.SQLAlchemyAsyncRepositoryService[Note]):
    """The service over the repository."""

    class Repo(repository.SQLAlchemyAsyncRepository[Note]):
        """The repository."""

        model_type = Note

    repository_type = Repo


DatabaseSession = Annotated[AsyncSession, Depends(alchemy.provide_session())]


async def provide_notes_service(db_session: DatabaseSession) -> AsyncIterator[NoteService]:
    """The service over the request's session."""
    async with NoteService.new(session=db_session) as notes:
        yield notes


def provide_limit_offset(
    limit: Annotated[int, Query(ge=1)] = 100, offset: Annotated[int, Query(ge=0)] = 0
) -> filters.LimitOffset:
    """Which part of the list."""
    return filters.LimitOffset(limit=limit, offset=offset)


Notes = Annotated[NoteService, Depends(provide_notes_service)]
LimitOffset = Annotated[filters.LimitOffset, Depends(provide_limit_offset)]


@app.get("/notes", response_model=service.OffsetPagination[NoteRead])
async def list_notes(notes: Notes, part: LimitOffset) -> service.OffsetPagination[NoteRead]:
    """The newest notes."""
    found = await notes.get_many(part, *NEWEST)
    return notes.to_schema(found, len(found), filters=[part], schema_type=NoteRead)


@app.get("/notes/{id}", response_model=NoteRead)
async def get_note(notes: Notes, id: uuid.UUID) -> NoteRead:
    """One note by id."""
    return notes.to_schema(await notes.get(id), schema_type=NoteRead)


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that the application has started."""
    return {"status": "ok"}
