"""The floor: a bare ASGI callable that reads rows with asyncpg and responds with orjson.

No routing, no token, no validation: what HTTP, one indexed query and one JSON body cost by
themselves under uvicorn. `GET /users/<id>` and `GET /notes/<id>` read one row, `GET /notes` the 100
newest notes; any other path responds with a fixed body without touching the database, to measure
the load generator's own ceiling. The tables are the benchmark's to make.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import asyncpg
import orjson

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

USER = "SELECT id, email, name, created_at FROM users WHERE id = $1"
NOTE = "SELECT id, owner_id, title, stars, created_at, updated_at FROM notes WHERE id = $1"
NOTES = (
    "SELECT id, owner_id, title, stars, created_at, updated_at FROM notes "
    "ORDER BY created_at DESC, id DESC LIMIT 100"
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
    status, body = 200, b'{"status":"ok"}'
    if path.startswith(("/users/", "/notes/")):
        statement = USER if path.startswith("/users/") else NOTE
        row = await pool.fetchrow(statement, uuid.UUID(path[7:]))
        if row is None:
            status, body = 404, b'{"detail":"Not found"}'
        else:
            body = orjson.dumps(dict(row), default=str)
    elif path == "/notes":
        rows = await pool.fetch(NOTES)
        body = orjson.dumps({"items": [dict(row) for row in rows]}, default=str)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
