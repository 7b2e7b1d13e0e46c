"""The application that the benchmark `changes` serves: a model with a log of its changes."""

from fastapi import FastAPI
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, PublicRead

db = Amphibase()
app = db.mount(FastAPI())


class Event(PublicRead, Base):
    """Everybody reads it, its owner writes it."""

    __tablename__ = "events"
    __changes__ = True

    sent: Mapped[float]


app.include_router(db.router(Event))
