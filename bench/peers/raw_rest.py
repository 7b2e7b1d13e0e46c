"""The floor of the gateway: a bare ASGI callable that runs the Data API's SQL with asyncpg.

Postgres makes the JSON, as it does for the gateway, and the text is passed through. No routing, no
token, no role and no row level security. `GET /notes/<id>` reads one row, `GET /notes` the 100
newest with their folders; any other path responds with a fixed body without touching the database.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import asyncpg

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "SELECT coalesce(json_agg(row_to_json(found)), '[]')::text FROM ({}) AS found"
NOTE = JSON.format("SELECT * FROM notes WHERE id = $1")
NOTES = JSON.format(
    "SELECT notes.*, row_to_json(folder) AS folders FROM notes LEFT JOIN LATERAL "
    "(SELECT id, name FROM folders WHERE folders.id = notes.folder_id) AS folder ON true "
    "ORDER BY notes.id DESC LIMIT 100"
)

pool: Any = None


async def lifespan(receive: Receive, send: Send) -> None:
    """Open the pool."""
    global pool
    await receive()
    size = int(os.environ["POOL_SIZE"])
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=size, max_size=size)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await pool.close()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Respond to one request."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path: str = scope["path"]
    text = '{"status":"ok"}'
    if path.startswith("/notes/"):
        text = await pool.fetchval(NOTE, int(path[7:]))
    elif path == "/notes":
        text = await pool.fetchval(NOTES)
    body = text.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
