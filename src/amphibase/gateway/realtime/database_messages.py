"""Broadcasts that the database sends, and has sent: rows of `realtime.messages`."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import text

from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.gateway.realtime.frames import Push, UserBroadcast, UserBroadcastPush
from amphibase.gateway.realtime.join import TOPIC_PREFIX, Replay
from amphibase.gateway.realtime.topics import Topics
from amphibase.replication.change import RowChange

PUBLICATION = "supabase_realtime_messages_publication"
SCHEMA, TABLE = "realtime", "messages"

# By the clock at which each was sent, so that those of one transaction keep their order.
_NEWEST = text("""
SELECT * FROM (
    SELECT id::text, event, payload::text, binary_payload, inserted_at FROM realtime.messages
    WHERE topic = :topic AND private AND extension = 'broadcast'
        AND inserted_at >= to_timestamp(:since / 1000.0) AT TIME ZONE 'UTC'
    ORDER BY inserted_at DESC LIMIT :limit
) AS newest ORDER BY inserted_at
""")


def is_message(change: RowChange) -> bool:
    """Return whether a change is a row of `realtime.messages`."""
    return change.relation.schema == SCHEMA and change.relation.table == TABLE


def deliver(change: RowChange, topics: Topics) -> None:
    """Send a message of the database to those who have joined its topic."""
    row = change.new or {}
    name = row.get("topic")
    if row.get("extension") != "broadcast" or not isinstance(name, str):
        return
    topic = topics.find(name, is_private=row.get("private") == "t")
    if topic is None:
        return
    content = row.get("binary_payload")
    binary = bytes.fromhex(content[2:]) if isinstance(content, str) else None
    push = _push(name, row, binary, {"id": row.get("id")})
    for receiver in topic.receivers():
        receiver.push(push)


async def read_newest(database: PipelineDatabase, name: str, replay: Replay) -> Sequence[Push]:
    """Return the newest messages of a private topic, the oldest of them first.

    Raises:
        Unavailable: the database cannot be reached.
    """
    values = {"topic": name, "since": replay.since, "limit": replay.limit}
    async with database.read() as connection:
        rows = (await connection.execute(_NEWEST, values)).mappings().all()
    return [
        _push(name, {**row}, row["binary_payload"], {"id": row["id"], "replayed": True})
        for row in rows
    ]


def _push(
    name: str, row: Mapping[str, Any], binary: bytes | None, metadata: Mapping[str, Any]
) -> Push:
    """Return a message.

    Args:
        name: of the topic.
        row: with the event and the payload, as text.
        binary: the payload of bytes; None for the one of JSON.
    """
    event = row.get("event") or ""
    push: Push
    if binary is not None:
        written = orjson.dumps(metadata)
        broadcast = UserBroadcast(event, written, is_json=False, content=binary)
        push = UserBroadcastPush(TOPIC_PREFIX + name, broadcast)
    else:
        payload = orjson.Fragment(row.get("payload") or "{}")
        body = {"type": "broadcast", "event": event, "payload": payload, "meta": metadata}
        push = Push(TOPIC_PREFIX + name, "broadcast", body)
    push.message_id = metadata["id"]
    return push
