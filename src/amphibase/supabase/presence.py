"""The presences of the processes that share a Supabase project, kept there by the service."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from amphibase.backend import SERVICE
from amphibase.errors import ConfigurationError, NotFound
from amphibase.messages.presence_store import LIFETIME_SECONDS, Beat, StoredPresence
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json


class ProjectPresences:
    """The presences in a project, by the functions that `amphibase supabase sql` writes."""

    def __init__(self, client: SupabaseClient) -> None:
        self._client = client

    async def put(self, stored: StoredPresence, most: int) -> bool:
        """Add a presence, or replace its payload; return False where the topic is full."""
        return bool(await self._call("amphibase_put_presence", {**stored.values, "most": most}))

    async def remove(self, presences: Collection[StoredPresence]) -> None:
        """Remove presences, those of them that are there."""
        await self._call(
            "amphibase_remove_presences", {"ids": [each.presence.id for each in presences]}
        )

    async def read(
        self, topic: str, ids: Collection[str] | None = None
    ) -> Sequence[StoredPresence]:
        """Return the presences of living processes on a topic, the oldest first."""
        arguments = {
            "topic": topic,
            "lifetime": LIFETIME_SECONDS,
            "ids": None if ids is None else list(ids),
        }
        return [
            StoredPresence.of(
                row["id"], row["topic"], row["process"], row["user_id"], row["payload"]
            )
            for row in await self._call("amphibase_read_presences", arguments)
        ]

    async def beat(self, process: str) -> Beat:
        """Record that a process is alive, and remove those that are not, with their presences."""
        arguments = {"process": process, "lifetime": LIFETIME_SECONDS}
        beat = await self._call("amphibase_beat", arguments)
        return Beat(beat["was_alive"], frozenset(beat["alive"]))

    async def _call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        try:  # each may be called twice: it sets the same state again
            response = await self._client.request(
                "rest", "POST", f"/rpc/{function}", SERVICE, json=arguments, idempotent=True
            )
        except NotFound:
            raise ConfigurationError(
                "The Supabase project has no tables of presence: apply what `amphibase supabase "
                "sql` writes"
            ) from None
        return read_json(response) if response.content else None
