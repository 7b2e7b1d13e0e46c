"""Tables whose changes tests subscribe to, and how they do."""

from typing import Any

from tests.gateway.realtime.api import Wire

ROOM = "realtime:changes"
NOTES = """
CREATE TABLE shop.notes (id int PRIMARY KEY, owner uuid, text text, secret text);
GRANT SELECT (id, owner, text), INSERT, UPDATE, DELETE ON shop.notes TO authenticated;
GRANT ALL ON shop.notes TO service_role;
ALTER TABLE shop.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.notes TO authenticated USING (owner = auth.uid());
ALTER PUBLICATION supabase_realtime ADD TABLE shop.notes;
"""
ITEMS = """
CREATE TABLE shop.items (
    id int PRIMARY KEY, n int, text text, price numeric, at timestamptz, ok bool
);
GRANT SELECT ON shop.items TO anon;
ALTER PUBLICATION supabase_realtime ADD TABLE shop.items;
"""


async def subscribe(wire: Wire, *bindings: dict[str, Any], token: str | None = None) -> list[int]:
    """Join a channel for changes; return the ids of the bindings."""
    response = await wire.join(ROOM, token, postgres_changes=list(bindings))
    frame = await wire.receive()
    assert frame[3:] == [
        "system",
        {
            "extension": "postgres_changes",
            "status": "ok",
            "message": "Subscribed to PostgreSQL",
            "channel": "changes",
        },
    ]
    return [each["id"] for each in response["postgres_changes"]]


async def change(wire: Wire) -> Any:
    """The next change."""
    frame = await wire.receive()
    assert frame[3] == "postgres_changes", frame
    return frame[4]


def notes(event: str = "*", **more: Any) -> dict[str, Any]:
    return {"event": event, "schema": "shop", "table": "notes", **more}
