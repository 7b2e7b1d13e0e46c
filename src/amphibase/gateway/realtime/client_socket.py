"""The WebSocket of one client, and the channels that it has joined."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.types import Receive, Send

from amphibase.gateway.realtime.channel import Channel
from amphibase.gateway.realtime.context import RealtimeContext
from amphibase.gateway.realtime.errors import (
    NameTooLong,
    RealtimeError,
    TooManyBindings,
    TooManyChannels,
    TooManyJoins,
    TopicNameRequired,
)
from amphibase.gateway.realtime.frames import (
    MAX_NAME_BYTES,
    ClientMessage,
    Frame,
    InvalidFrame,
    Push,
    Version,
    is_too_long,
    read_frame,
    write_frame,
)
from amphibase.gateway.realtime.join import TOPIC_PREFIX, JoinConfig
from amphibase.gateway.realtime.send_queue import SendQueue
from amphibase.redaction import redacted_logger
from amphibase.shutdown import at_shutdown

logger = redacted_logger("amphibase.gateway.realtime")

GOING_AWAY = 1001
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

MAX_CHANNEL_BINDINGS, MAX_BINDINGS = 100, 1000
"""Subscriptions to changes of one channel, and of all channels of one connection: every change of
a table is compared with each of them."""

CLOSE_SECONDS = 5
"""How long the message that closes a connection may take."""


class ClientSocket:
    """One connection.

    Args:
        write_encoded: see `SendQueue`.
        token: of the handshake, verified; it counts where a join has none.
    """

    __slots__ = (
        "__weakref__", "_channels", "_close", "_context", "_queue", "_reading", "_receive", "_send",
        "_token", "_version",
    )  # fmt: skip

    def __init__(
        self,
        context: RealtimeContext,
        receive: Receive,
        send: Send,
        write_encoded: Callable[[bytes], bool] | None,
        version: Version,
        token: str,
    ) -> None:
        self._context = context
        self._receive = receive
        self._send = send
        self._version = version
        self._token = token
        self._channels: dict[str, Channel] = {}
        most = context.settings.max_queued_kilobytes * 1000
        self._queue = SendQueue(send, write_encoded, most, self._overflow)
        self._reading: asyncio.Task[None] | None = None
        self._close: tuple[int, str] | None = None

    @property
    def needs_feed(self) -> bool:
        """Whether a channel needs what the database sends."""
        return any(channel.needs_feed for channel in self._channels.values())

    async def run(self) -> None:
        """Serve the connection, which has been accepted, until it ends."""
        self._context.sockets.add(self)
        self._reading = asyncio.create_task(self._read())
        try:
            with at_shutdown(self._announce_restart):  # the server then closes the connection
                await asyncio.wait([self._reading])
            if not self._reading.cancelled():
                self._reading.result()
        finally:
            self._reading.cancel()
            self._context.sockets.discard(self)
            for channel in list(self._channels.values()):
                channel.leave()
            self._queue.close()
        if self._close is not None:
            code, reason = self._close
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def restart(self) -> None:
        """Close the connection, because the service begins anew; clients then connect again."""
        self._announce_restart()
        self.close(SERVICE_RESTART, "Service restart")

    def lose_changes(self, reason: str) -> None:
        """Let channels join again that may have missed what the database sent."""
        for channel in list(self._channels.values()):
            channel.lose_changes(reason)

    def close(self, code: int, reason: str) -> None:
        """Close the connection once."""
        if self._close is None and self._reading is not None:
            self._close = code, reason
            self._reading.cancel()

    def push(self, push: Push) -> None:
        """Send a message of the server."""
        frame = push.frame(self._version)
        if frame is not None:
            self._queue.put_encoded(frame)

    def write(
        self, topic: str, event: str, payload: Any, ref: str | None, join_ref: str | None
    ) -> None:
        """Send a message to this client alone."""
        self._queue.put(write_frame(self._version, topic, event, payload, ref, join_ref))

    def _announce_restart(self) -> None:
        for channel in self._channels.values():
            channel.system("Server requested disconnect")

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            frame: Frame = message["bytes"] if text is None else text
            try:
                await self._handle(read_frame(self._version, frame))
            except InvalidFrame as error:
                logger.debug("Realtime: a frame is ignored: %s", error)

    async def _handle(self, message: ClientMessage) -> None:
        if message.topic == "phoenix":
            self._reply(message, "ok", {})
        elif message.event == "phx_join":
            await self._join(message)
        elif message.event == "phx_leave":
            self._reply(message, "ok", {})
            if message.topic in self._channels:
                self._channels[message.topic].end()
        elif message.topic in self._channels:
            await self._channels[message.topic].receive(message)
        else:
            self._reply(message, "error", {"reason": "unmatched topic"})

    async def _join(self, message: ClientMessage) -> None:
        topic = message.topic
        if not topic.startswith(TOPIC_PREFIX):
            self._reply(message, "error", {"reason": "unmatched topic"})
            return
        if topic in self._channels:
            self._channels[topic].end()
        try:
            self._check_limits()
            channel = await self._joined(topic.removeprefix(TOPIC_PREFIX), message)
        except RealtimeError as error:
            self._reply(message, "error", {"reason": error.reason})
            if isinstance(error, TooManyJoins):
                self.close(GOING_AWAY, error.message)
            return
        self._channels[topic] = channel
        self._reply(message, "ok", {"postgres_changes": channel.bindings})
        channel.begin()

    async def _joined(self, name: str, message: ClientMessage) -> Channel:
        if not name:
            raise TopicNameRequired
        if is_too_long(message.topic):
            raise NameTooLong("topic", MAX_NAME_BYTES)
        config = JoinConfig.read(name, message.payload)
        if is_too_long(config.presence_key):
            raise NameTooLong("key of presence", MAX_NAME_BYTES)
        self._check_bindings(len(config.changes))
        with self._context.joining():
            return await Channel.join(
                self._context, self, name, message.ref, config, self._token, self._left
            )

    def _check_limits(self) -> None:
        most = self._context.settings.max_channels
        if most and len(self._channels) >= most:
            raise TooManyChannels
        if not self._context.joins.admits():
            raise TooManyJoins

    def _check_bindings(self, count: int) -> None:
        if count > MAX_CHANNEL_BINDINGS:
            raise TooManyBindings("channel", MAX_CHANNEL_BINDINGS)
        if sum(len(each.bindings) for each in self._channels.values()) + count > MAX_BINDINGS:
            raise TooManyBindings("connection", MAX_BINDINGS)

    def _left(self, channel: Channel) -> None:
        self._channels.pop(channel.wire_name, None)

    def _reply(self, message: ClientMessage, status: str, response: Any) -> None:
        payload = {"status": status, "response": response}
        # A join is its own join_ref.
        join_ref = message.ref if message.event == "phx_join" else message.join_ref
        self.write(message.topic, "phx_reply", payload, message.ref, join_ref)

    def _overflow(self) -> None:
        logger.warning("Realtime closes a connection whose client reads too slowly")
        self.close(TRY_AGAIN_LATER, "The client reads too slowly")
