"""The configuration of Realtime; names that begin with `TENANT_` are Supabase Realtime's own."""

from pydantic import Field

from amphibase.gateway.project_settings import ProjectSettings


class RealtimeSettings(ProjectSettings):
    """What clients of Realtime may send, and how much of it; 0 sets no limit.

    Attributes:
        max_connections: how many WebSockets may be open.
        max_channels: how many channels a WebSocket may have joined.
        max_messages: broadcasts per second, each counted once for every socket that it goes to;
            the average of a minute.
        max_joins: joins per second; the average of a minute.
        max_presence_messages: the same of calls of `track` and `untrack`.
        max_payload_kilobytes: of one broadcast or one presence.
        max_queued_kilobytes: what waits for a client that reads too slowly, before it is closed.
        db_pool: the most connections for the questions of policies; one more reads the changes.
        closes_at_expiry: whether a channel is closed for good when its token expires, as by
            Supabase; else clients join again by themselves, with the token that they have then.
    """

    max_connections: int = Field(
        0, ge=0, validation_alias="TENANT_MAX_CONCURRENT_USERS", examples=["200"]
    )
    max_channels: int = Field(
        100, ge=0, validation_alias="TENANT_MAX_CHANNELS_PER_CLIENT", examples=["100"]
    )
    max_messages: int = Field(
        0, ge=0, validation_alias="TENANT_MAX_EVENTS_PER_SECOND", examples=["100"]
    )
    max_joins: int = Field(
        0, ge=0, validation_alias="TENANT_MAX_JOINS_PER_SECOND", examples=["100"]
    )
    max_presence_messages: int = Field(
        0,
        ge=0,
        validation_alias="GATEWAY_REALTIME_MAX_PRESENCE_EVENTS_PER_SECOND",
        examples=["1000"],
    )
    max_payload_kilobytes: int = Field(
        3000, ge=0, validation_alias="GATEWAY_REALTIME_MAX_PAYLOAD_KB", examples=["3000"]
    )
    max_queued_kilobytes: int = Field(
        16_384, ge=1, validation_alias="GATEWAY_REALTIME_MAX_QUEUED_KB", examples=["16384"]
    )
    db_pool: int = Field(
        5, ge=1, le=1000, validation_alias="GATEWAY_REALTIME_DB_POOL", examples=["5"]
    )
    closes_at_expiry: bool = Field(
        False, validation_alias="GATEWAY_REALTIME_CLOSES_AT_EXPIRY", examples=["true"]
    )
