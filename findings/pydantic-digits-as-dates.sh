#!/usr/bin/env bash
# What pydantic reads where a date is written in the basic format of ISO 8601: another one, 56 years
# earlier or 586 years later, without an error.
#
# Seen with pydantic 2.14.4, FastAPI 0.165.0, CPython 3.11, a query parameter since: datetime:
#     ?since=            FastAPI                             Python, Postgres
#     20260101           1970-08-23T11:48:21Z                1 January 2026
#     202601011030       1976-06-02T22:03:31.030000Z         neither reads it
#     20260101103000     2612-01-07T21:51:43Z                neither reads it
#     20260101T103000Z   422                                 1 January 2026, 10:30
# One would guess that a text is read as ISO 8601 or rejected, since the schema says date-time, and
# that AwareDatetime rejects a text without an offset: it accepts these. A text of digits is a number
# for pydantic, and a number is a time since 1970, in seconds up to 20,000,000,000 and in
# milliseconds above. date +%Y%m%d, names of logs and backups, and many exports write this format;
# a list "since 1 January" then has everything. Reject texts of digits by a BeforeValidator.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pydantic==2.14.4 fastapi==0.165.0 httpx==0.28.1

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from datetime import datetime
from importlib.metadata import version

import httpx
from fastapi import FastAPI
from pydantic import AwareDatetime, TypeAdapter

app = FastAPI()


@app.get("/notes")
async def notes(since: datetime) -> datetime:
    return since


async def responses(texts):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for text in texts:
            response = await client.get("/notes", params={"since": text})
            yield text, response.json() if response.status_code == 200 else response.status_code


async def main():
    texts = ("20260101", "202601011030", "20260101103000", "20260101T103000Z")
    return {text: read async for text, read in responses(texts)}


print("pydantic", version("pydantic"), "fastapi", version("fastapi"))
seen = asyncio.run(main())
for text, read in seen.items():
    print(f"{text:17} {read}")
aware = TypeAdapter(AwareDatetime).validate_python("20260101")
print("AwareDatetime of 20260101:", aware.isoformat())
assert datetime.fromisoformat("20260101") == datetime(2026, 1, 1)
assert seen == {
    "20260101": "1970-08-23T11:48:21Z",
    "202601011030": "1976-06-02T22:03:31.030000Z",
    "20260101103000": "2612-01-07T21:51:43Z",
    "20260101T103000Z": 422,
}, "texts of digits are read in another way now"
assert aware.isoformat() == "1970-08-23T11:48:21+00:00"
PYTHON
echo "as described"
