"""The application of the README: notes of users, on whichever backend the environment names."""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, Owned, Repository

db = Amphibase()  # the environment selects where the data is stored
app = db.mount(FastAPI())  # /auth /users /files /health, error responses, lifespan


class Note(Owned, Base):  # id, owner_id, created_at, updated_at; only its owner may touch it
    __tablename__ = "notes"
    title: Mapped[str]
    stars: Mapped[int]


class NewNote(BaseModel):
    title: str
    stars: int = 0


Notes = Annotated[Repository[Note], db.repository(Note)]


@app.post("/notes", status_code=201, response_model=db.schema(Note))
async def add(new: NewNote, notes: Notes):
    return await notes.add(Note(**new.model_dump()))


@app.get("/notes", response_model=list[db.schema(Note)])
async def mine(notes: Notes):
    return await notes.list(Note.stars > 3, limit=20)  # newest first; the caller's own rows
