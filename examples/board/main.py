"""A board of notes that everyone sees, and sees change: `amphibase serve main:app`, and open `/`.

The page reads the list once and then follows `GET /notes/changes`. Whoever adds or removes a note,
in whichever worker or process, all pages show it.
"""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, PublicRead

PAGE = Path(__file__).with_name("index.html")

db = Amphibase()
app = db.mount(FastAPI())


class Note(PublicRead, Base):
    __tablename__ = "notes"
    __changes__ = True

    text: Mapped[str]


app.include_router(db.router(Note))


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE)
