"""Files the way most FastAPI applications have them: `await file.read()` and FileResponse."""

import os
import uuid
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, File, UploadFile
from fastapi.responses import FileResponse

FOLDER = Path(os.environ["FOLDER"])
app = FastAPI()


@app.get("/health")
async def health() -> str:
    return "ok"


@app.post("/files", status_code=201)
async def upload(file: Annotated[UploadFile, File()]) -> dict[str, str]:
    name = uuid.uuid4().hex
    (FOLDER / name).write_bytes(await file.read())  # as the pattern does it
    return {"path": name}


@app.get("/files/{name}")
async def download(name: uuid.UUID) -> FileResponse:
    return FileResponse(FOLDER / name.hex)
