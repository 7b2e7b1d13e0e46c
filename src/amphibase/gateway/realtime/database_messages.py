"""Broadcasts that the database sends: rows of `realtime.messages`."""

import orjson

from amphibase.gateway.realtime.frames import Push, UserBroadcast, UserBroadcastPush
from amphibase.gateway.realtime.join import TOPIC_PREFIX
from amphibase.gateway.realtime.topics import Topics
from amphibase.replication.pgoutput import RowChange

PUBLICATION = "supabase_realtime_messages_publication"
SCHEMA, TABLE = "realtime", "messages"


def is_message(change: RowChange) -> bool:
    """Return whether a change is a row of `realtime.messages`."""
    return change.relation.schema == SCHEMA and change.relation.table == TABLE


def deliver(change: RowChange, topics: Topics) -> None:
    """Send a message of the database to those who have joined its topic."""
    row = change.new or {}
    name, event, id = (row.get(key) for key in ("topic", "event", "id"))
    if row.get("extension") != "broadcast" or not isinstance(name, str):
        return
    topic = topics.find(name, is_private=row.get("private") == "t")
    if topic is None:
        return
    event = event if isinstance(event, str) else ""
    payload, content = row.get("payload"), row.get("binary_payload")
    push: Push
    if isinstance(content, str):
        metadata = orjson.dumps({"id": id})
        user = UserBroadcast(event, metadata, is_json=False, content=bytes.fromhex(content[2:]))
        push = UserBroadcastPush(TOPIC_PREFIX + name, user)
    else:
        text = payload if isinstance(payload, str) else "{}"
        body = {"type": "broadcast", "event": event, "payload": orjson.Fragment(text)}
        push = Push(TOPIC_PREFIX + name, "broadcast", {**body, "meta": {"id": id}})
    for receiver in topic.receivers():
        receiver.push(push)
