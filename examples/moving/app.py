"""The application that moves: notes of its users, and their files."""

from fastapi import FastAPI
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, Owned

db = Amphibase()
app = db.mount(FastAPI())


class Note(Owned, Base):
    __tablename__ = "notes"
    title: Mapped[str]
    stars: Mapped[int]


db.repository(Note)
