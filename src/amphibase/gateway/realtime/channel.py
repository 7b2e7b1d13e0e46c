"""A channel: one topic that one socket has joined."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from time import time
from types import MappingProxyType
from typing import Any, Protocol, Self

import orjson

from amphibase.errors import Unavailable
from amphibase.gateway.realtime.authorization import BROADCAST, PRESENCE
from amphibase.gateway.realtime.changes.binding import binding_id
from amphibase.gateway.realtime.changes.lane import EVENT
from amphibase.gateway.realtime.changes.subscriptions import Subscriptions
from amphibase.gateway.realtime.context import RealtimeContext
from amphibase.gateway.realtime.database_messages import read_newest
from amphibase.gateway.realtime.errors import (
    ChangesNotSent,
    ChangesRejected,
    DatabaseUnreachable,
    MalformedRealtimeToken,
    NoLongerReadable,
    NotReadable,
    RealtimeError,
    TooManyMessages,
    TooManyPresenceMessages,
)
from amphibase.gateway.realtime.frames import (
    MAX_NAME_BYTES,
    ClientMessage,
    Push,
    UserBroadcast,
    UserBroadcastPush,
    is_too_long,
    system_payload,
)
from amphibase.gateway.realtime.join import TOPIC_PREFIX, JoinConfig, Replay, user_token
from amphibase.gateway.realtime.tokens import ChannelCaller, authenticate
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.gateway.realtime")

NO_CHANGES = "The database does not send its changes"
REPLICATION_READY = "Replication connection established"
PAYLOAD_TOO_LARGE = "payload_size_exceeded"
EVENT_TOO_LONG = f"The event has more than {MAX_NAME_BYTES} bytes"


class ChannelSocket(Protocol):
    """The socket, as far as its channels know it."""

    def push(self, push: Push) -> None:
        """Send a message of the server."""

    def write(
        self, topic: str, event: str, payload: Any, ref: str | None, join_ref: str | None
    ) -> None:
        """Send a message to this client alone."""


class Channel:
    """A topic that a socket has joined; a `Subscriber` of it.

    Args:
        socket: that it has joined by.
        name: of the topic, without the prefix.
        join_ref: the ref of the join, which ends it too.
        caller: whom the token of the join, or else of the socket, names.
        left: called once when it has ended.
        readable: which extensions of a private topic the caller may read.
    """

    __slots__ = (
        "__weakref__", "_caller", "_change_errors", "_change_notices", "_config", "_context",
        "_expiry", "_feed_error", "_has_left", "_held", "_join_ref", "_left", "_name", "_readable",
        "_replayed", "_socket", "_topic", "_wants_presence", "_writable", "wire_name",
    )  # fmt: skip

    def __init__(
        self,
        context: RealtimeContext,
        socket: ChannelSocket,
        name: str,
        join_ref: str | None,
        config: JoinConfig,
        caller: ChannelCaller,
        left: "Callable[[Channel], None]",
        readable: Collection[str],
    ) -> None:
        self._context = context
        self._socket = socket
        self._name = name
        self.wire_name = TOPIC_PREFIX + name
        self._join_ref = join_ref
        self._config = config
        self._caller = caller
        self._left = left
        self._expiry: asyncio.TimerHandle | None = None
        self._has_left = False
        self._topic = context.topics.join(name, self, is_private=config.is_private)
        self._wants_presence = config.has_presence
        self._readable = readable
        self._writable: dict[str, bool] = {}
        self._change_errors: Sequence[str] = ()
        self._change_notices: Sequence[str] = ()
        self._feed_error: str | None = None
        self._held: list[Push] | None = None if config.replay is None else []
        self._replayed: Mapping[str | None, Push] = MappingProxyType({})
        self._await_expiry()

    @classmethod
    async def join(
        cls,
        context: RealtimeContext,
        socket: ChannelSocket,
        name: str,
        join_ref: str | None,
        config: JoinConfig,
        token: str,
        left: "Callable[[Channel], None]",
    ) -> Self:
        """Join a topic.

        Args:
            token: of the socket, which counts where the join has none.

        Raises:
            RealtimeError: the token is not valid, no policy lets its bearer read the topic, or the
                changes cannot be had that it waits for.
        """
        if config.token == "":
            raise MalformedRealtimeToken
        caller = authenticate(context.tokens, token if config.token is None else config.token)
        readable = await _readable(context, caller, name, is_private=config.is_private)
        if config.replay is not None and BROADCAST not in readable:
            raise NotReadable(name)
        # Before the reply: whoever has that receives every later commit. Triggers alter tables, of
        # which the subscriptions keep what they have read.
        reason = await context.start_feed() if config.needs_feed else None
        subscriptions = await _read_subscriptions(context, caller, config)
        if config.changes and config.awaits_changes:
            if reason is not None:
                raise ChangesNotSent(f"{NO_CHANGES}: {reason}")
            if subscriptions.errors:
                raise ChangesRejected(subscriptions.errors[0])
        channel = cls(context, socket, name, join_ref, config, caller, left, readable)
        channel._subscribe(subscriptions, reason)
        if config.replay is not None:
            await channel._read_replayed(config.replay)
        return channel

    @property
    def receives_broadcasts(self) -> bool:
        return BROADCAST in self._readable

    @property
    def receives_presence(self) -> bool:
        return self._wants_presence and PRESENCE in self._readable

    @property
    def needs_feed(self) -> bool:
        """Whether it needs what the database sends."""
        return self._config.needs_feed

    @property
    def names_changes(self) -> bool:
        """Whether changes come as events of the name of their operation."""
        return self._config.names_changes

    def push(self, push: Push) -> None:
        """Send a message of the topic to the client, after those that are replayed."""
        if push.message_id is not None and push.message_id in self._replayed:
            return
        if self._held is None:
            self._socket.push(push)
        else:
            self._held.append(push)

    @property
    def caller(self) -> ChannelCaller:
        """Whom the newest token names."""
        return self._caller

    @property
    def bindings(self) -> Sequence[Mapping[str, Any]]:
        """The changes that the client wants, with their ids, for the reply to the join."""
        if self._config.names_changes:
            return []
        return [{**each, "id": binding_id(each)} for each in self._config.changes]

    def begin(self) -> None:
        """Send what follows the reply to the join."""
        for push in self._replayed.values():
            self._socket.push(push)
        held, self._held = self._held, None
        for push in held or ():
            self.push(push)
        self._push_state()
        self._report_changes()

    async def _read_replayed(self, replay: Replay) -> None:
        """Read what was sent before; what is sent meanwhile waits. Raises DatabaseUnreachable."""
        try:
            pushes = await read_newest(self._context.database, self._name, replay)
        except BaseException as error:
            self.leave()
            if isinstance(error, Unavailable):
                raise DatabaseUnreachable from None
            raise
        self._replayed = {push.message_id: push for push in pushes}

    def _push_state(self) -> None:
        if self.receives_presence:
            self._topic.push_state(self)

    def _subscribe(self, subscriptions: Subscriptions, reason: str | None) -> None:
        """Subscribe to changes.

        Args:
            reason: why the database sends none; None where it does.
        """
        self._feed_error = reason
        errors = subscriptions.errors
        self._change_errors = errors if reason is None else [f"{NO_CHANGES}: {reason}"]
        self._change_notices = subscriptions.notices
        self._context.publisher.add(self, subscriptions.bindings)

    def _report_changes(self) -> None:
        if self._config.reports_replication and not self._feed_error:
            self.system(REPLICATION_READY)
        if not self._config.changes:
            for error in self._change_errors:
                self.system(error, is_error=True)
            return
        for error in self._change_errors:
            self.system(error, extension=EVENT, is_error=True)
        if not self._change_errors:
            self.system("Subscribed to PostgreSQL", extension=EVENT)
        for notice in self._change_notices:
            logger.info("Realtime: %s", notice)
            self.system(notice, extension=EVENT)

    def lose_changes(self, reason: str) -> None:
        """Let the client join again, where it may have missed what the database sent."""
        if self._config.needs_feed:
            self.system(f"The connection to the database was lost: {reason}", is_error=True)
            self.end("phx_error")

    async def receive(self, message: ClientMessage) -> None:
        """Do what a message of the client says."""
        try:
            match message.event:
                case "broadcast":
                    await self._broadcast(message)
                case "presence":
                    await self._presence(message)
                case "access_token":
                    await self._replace_token(message.payload)
                case event:
                    logger.debug("Realtime: the event %s of a client is ignored", event)
        except RealtimeError as error:
            self._fail(error)

    def system(self, message: str, *, extension: str = "system", is_error: bool = False) -> None:
        """Send the client a message about the channel itself."""
        payload = system_payload(self._name, extension, message, is_error=is_error)
        self._write("system", payload, None)

    def end(self, event: str = "phx_close") -> None:
        """Leave the topic, and say so.

        Args:
            event: `phx_close` ends it for good, after `phx_error` clients join again.
        """
        self.leave()
        self._write(event, {}, self._join_ref)

    def leave(self) -> None:
        """Leave the topic, without a message."""
        self._has_left = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._context.publisher.remove(self)
        self._context.topics.leave(self._topic, self)
        self._left(self)

    def _fail(self, error: RealtimeError) -> None:
        self.system(error.detail, is_error=True)
        self.end()

    def _write(self, event: str, payload: Any, ref: str | None) -> None:
        self._socket.write(self.wire_name, event, payload, ref, ref and self._join_ref)

    def _reply(self, message: ClientMessage, status: str, response: Any) -> None:
        if message.ref is not None:
            payload = {"status": status, "response": response}
            self._socket.write(self.wire_name, "phx_reply", payload, message.ref, self._join_ref)

    async def _broadcast(self, message: ClientMessage) -> None:
        payload = message.payload
        push: Push | None = None
        if isinstance(payload, UserBroadcast):
            push = UserBroadcastPush(self.wire_name, payload)
        elif isinstance(payload, dict):
            event = payload.get("event")
            if isinstance(event, str) and is_too_long(event):
                self._reply(message, "error", {"reason": EVENT_TOO_LONG})
                return
            push = Push(self.wire_name, "broadcast", payload)
        if push is None:
            logger.debug("Realtime: a broadcast that is no object is ignored")
            return
        if self._context.is_too_large(message.size):
            self._reply(message, "error", {"reason": PAYLOAD_TOO_LARGE})
            return
        if not await self._may_write(BROADCAST):  # in silence, as Supabase Realtime
            return
        sender = None if self._config.sends_back else self
        self._context.broadcast(push, self._topic.receivers(sender))
        if self._config.acknowledges:
            self._reply(message, "ok", {})

    async def _presence(self, message: ClientMessage) -> None:
        if not self._context.presence_messages.admits():
            raise TooManyPresenceMessages
        content = message.payload if isinstance(message.payload, dict) else {}
        event = content.get("event")
        match event.lower() if isinstance(event, str) else event:
            case "track" if await self._may_write(PRESENCE):
                self._track(message, content.get("payload", {}))
            case "untrack":
                self._topic.presences.untrack(self)
                self._reply(message, "ok", {})
            case None:
                self._reply(message, "ok", {})
            case _:
                self._reply(message, "error", {})

    def _track(self, message: ClientMessage, payload: Any) -> None:
        if not isinstance(payload, dict):
            reason = "Presence track payload must be a map"
            self._reply(message, "error", {"reason": reason})
            return
        if self._context.is_too_large(len(orjson.dumps(payload))):
            raise TooManyMessages("Track message size exceeded")
        if not self._wants_presence:
            self._wants_presence = True
            self._push_state()  # realtime-js drops diffs until it has a state
        self._topic.presences.track(self, self._config.presence_key, payload)
        self._reply(message, "ok", {})

    async def _replace_token(self, payload: Any) -> None:
        token = user_token(payload.get("access_token") if isinstance(payload, dict) else None)
        if token is None or token == self._caller.token:
            return
        if not token:
            raise MalformedRealtimeToken
        caller = authenticate(self._context.tokens, token)
        is_private = self._config.is_private
        readable = await _readable(self._context, caller, self._name, is_private=is_private)
        subscriptions = await _read_subscriptions(self._context, caller, self._config)
        if self._has_left:  # meanwhile, because the token before has expired
            return
        lost = {*self._readable} - {*readable}
        if BROADCAST in lost or (PRESENCE in lost and self._wants_presence):
            raise NoLongerReadable(self._name)
        self._caller, self._readable = caller, readable
        self._writable.clear()
        self._await_expiry()
        self._subscribe(
            subscriptions, self._context.feed.failure if self._config.needs_feed else None
        )
        self._report_changes()

    async def _may_write(self, extension: str) -> bool:
        """Return whether the caller may send; the policies are asked once for each token."""
        if not self._config.is_private:
            return True
        if extension not in self._writable:
            try:
                self._writable[extension] = await self._context.authorization.may_write(
                    self._caller, self._name, extension
                )
            except Unavailable:
                raise DatabaseUnreachable from None
        return self._writable[extension]

    def _await_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        seconds = max(0.0, self._caller.expires - time())
        self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self.system("Token has expired 0 seconds ago", is_error=True)
        self.end("phx_close" if self._context.settings.closes_at_expiry else "phx_error")


async def _readable(
    context: RealtimeContext, caller: ChannelCaller, name: str, *, is_private: bool
) -> Collection[str]:
    """Return which extensions of a topic the caller may read.

    Raises:
        NotReadable: none.
        DatabaseUnreachable: the policies cannot be asked.
    """
    if not is_private:
        return BROADCAST, PRESENCE
    try:
        readable = await context.authorization.readable(caller, name)
    except Unavailable:
        raise DatabaseUnreachable from None
    if not readable:
        raise NotReadable(name)
    return readable


async def _read_subscriptions(
    context: RealtimeContext, caller: ChannelCaller, config: JoinConfig
) -> Subscriptions:
    """Read what changes the client wants, and prepare for them. Raises DatabaseUnreachable."""
    try:
        subscriptions = await Subscriptions.read(context.database, caller.role, config.changes)
        if subscriptions.bindings:
            await context.publisher.prepare(caller.role, subscriptions.bindings)
        return subscriptions
    except Unavailable:
        raise DatabaseUnreachable from None
