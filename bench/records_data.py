"""The notes that every side of the benchmark `records` reads, the same each time."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from hashlib import md5

import psycopg

OWNER = uuid.UUID(int=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
"""When note 0 would have been written; each is a second younger than the one before."""

PROFILE = "INSERT INTO users (id, email) VALUES (%s, 'owner@example.com') ON CONFLICT DO NOTHING"
NOTES = """
INSERT INTO notes (id, owner_id, title, stars, created_at, updated_at)
SELECT md5('note ' || n)::uuid, %(owner)s, 'Note ' || n, n %% 5, at, at
FROM generate_series(%(first)s::int, %(last)s::int) AS n,
    LATERAL (SELECT %(start)s + n * interval '1 second' AS at) AS times
"""


def note_id(number: int) -> uuid.UUID:
    """The id of a note; in no order, as random ids are."""
    return uuid.UUID(md5(f"note {number}".encode()).hexdigest())


def title(number: int) -> str:
    """The title of a note."""
    return f"Note {number}"


def written_at(number: int) -> datetime:
    """When a note was written."""
    return FIRST + timedelta(seconds=number)


def add_owner(url: str) -> None:
    """Make the profile that owns all notes."""
    with psycopg.connect(url) as connection:
        connection.execute(PROFILE, (OWNER,))


def fill(url: str, first: int, last: int) -> None:
    """Make the notes with these numbers, both ends included, and settle the table."""
    values = {"owner": OWNER, "first": first, "last": last, "start": FIRST}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(NOTES, values)
        connection.execute("VACUUM ANALYZE notes")
        connection.execute("CHECKPOINT")
