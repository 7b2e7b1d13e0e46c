"""The floor: a bare ASGI callable that reads one user by id with asyncpg and answers with orjson.

No routing, no token, no validation: what HTTP, one indexed query and one JSON body cost by
themselves under uvicorn. `GET /users/<id>` reads a user; any other path answers a fixed body
without touching the database, against which the load generator's own ceiling is taken.
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

USERS = 64
SELECT = "SELECT id, email, name, created_at FROM users WHERE id = $1"
SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""
INSERT = "INSERT INTO users (id, email, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"

pool: Any = None


async def lifespan(receive: Receive, send: Send) -> None:
    """Open the pool and make the users 0 to 63, whose ids are those numbers as UUIDs."""
    global pool
    await receive()
    size = int(os.environ["POOL_SIZE"])
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=size, max_size=size)
    await pool.execute(SCHEMA)
    users = [(uuid.UUID(int=n), f"user-{n}@example.com", f"User {n}") for n in range(USERS)]
    await pool.executemany(INSERT, users)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await pool.close()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path: str = scope["path"]
    status, body = 200, b'{"status":"ok"}'
    if path.startswith("/users/"):
        row = await pool.fetchrow(SELECT, uuid.UUID(path[7:]))
        if row is None:
            status, body = 404, b'{"detail":"Not found"}'
        else:
            body = orjson.dumps(dict(row), default=str)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
