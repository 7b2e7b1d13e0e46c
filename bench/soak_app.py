"""The application that the benchmark `soak` serves: notes, and a route that writes slowly."""

import asyncio

from fastapi import FastAPI
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, CurrentUser, Owned, Session

db = Amphibase()
app = db.mount(FastAPI())
HOLD_SECONDS = 2.0


class Note(Owned, Base):
    """Its owner reads and writes it."""

    __tablename__ = "notes"

    title: Mapped[str]
    stars: Mapped[int]


app.include_router(db.router(Note))


@app.post("/held-notes", status_code=204)
async def add_slowly(session: Session, user: CurrentUser) -> None:
    """Add a note and hold the session, as a call to a payment service would."""
    session.add(Note(title="held", stars=0, owner_id=user.id))
    await session.flush()
    await asyncio.sleep(HOLD_SECONDS)
