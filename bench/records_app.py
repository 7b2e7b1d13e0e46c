"""The application that the benchmark `records` serves: one model and its ready router."""

from fastapi import FastAPI
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, PublicRead

db = Amphibase()
app = db.mount(FastAPI())


class Note(PublicRead, Base):
    """Everybody reads it, its owner writes it."""

    __tablename__ = "notes"

    title: Mapped[str]
    stars: Mapped[int]


app.include_router(db.router(Note))
