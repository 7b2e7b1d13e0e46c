"""A board of notes that everyone sees, and sees change: `amphibase serve main:app` in this folder,
and open `/`.

The page reads the list once and then follows `GET /notes/changes`. Whoever adds or removes a note,
in whichever worker or process, all pages show it; and `GET /presence` tells each how many are open.
"""

from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from sqlalchemy.orm import Mapped

from amphibase import Amphibase, Base, PresenceFeed, PublicRead, Topic
from amphibase.access import everyone

PAGE = Path(__file__).with_name("index.html")

BOARD = Topic("board", read=everyone, write=everyone)

db = Amphibase()
app = db.mount(FastAPI())


class Note(PublicRead, Base):
    __tablename__ = "notes"
    __changes__ = True

    text: Mapped[str]


app.include_router(db.router(Note))


@app.get("/presence")
async def presence(board: Annotated[PresenceFeed, db.presence(BOARD)]) -> Response:
    return board.response({})


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE)
