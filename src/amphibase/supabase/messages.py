"""Carries messages between the processes that share a Supabase project: a channel of its Realtime.

It is a private channel that the service alone uses: its processes decide who may use a topic, as on
any backend, and name the sender of each message. Policies of `realtime.messages` could do neither:
they see the name of a channel, and nothing of a message or of a rule in Python. A project may have
policies that admit its users to every private channel; so the name of this one is a secret.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

import orjson

from amphibase.backend import SERVICE
from amphibase.errors import ConfigurationError, Unavailable
from amphibase.supabase.client import SupabaseClient

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

TOPIC_PREFIX = "realtime:"
EVENT = "message"
JOIN_REF = "1"

CONNECT_SECONDS = 10
HEARTBEAT_SECONDS = 25
"""As Supabase's clients; Realtime closes a connection that says nothing for 60 seconds."""
MAX_FRAME_BYTES = 1024 * 1024


class ProjectMessages:
    """Broadcasts on one private channel (https://supabase.com/docs/guides/realtime/broadcast).

    Args:
        channel: its name, which nobody else knows.
    """

    def __init__(self, client: SupabaseClient, channel: str) -> None:
        self._client = client
        self._channel = channel

    async def send(self, text: str) -> None:
        """Send a text to all who listen."""
        message = {
            "topic": self._channel,
            "event": EVENT,
            "payload": {"text": text},
            "private": True,
        }
        body = {"messages": [message]}
        await self._client.request("realtime", "POST", "/api/broadcast", SERVICE, json=body)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        """Open the stream of texts, on a WebSocket of its own."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidStatus, WebSocketException

        try:
            async with connect(
                self._url(), open_timeout=CONNECT_SECONDS, max_size=MAX_FRAME_BYTES
            ) as socket:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._join(socket)
                async with aclosing(self._texts(socket)) as texts:
                    yield texts
        except InvalidStatus as error:
            _reject(f"status {error.response.status_code}")
        except (WebSocketException, OSError, TimeoutError) as error:
            raise Unavailable("Realtime of the Supabase project cannot be reached") from error

    def _url(self) -> str:
        """Return the URL of the socket, with the service key in it only where there is no other
        way: the project turns an opaque key into a token, and that only there."""
        project = self._client.project
        key = project.service_key if project.service_key.is_opaque else project.anon_key
        query = urlencode({"apikey": key.value, "vsn": "1.0.0"})
        url = self._client.url("realtime", f"/websocket?{query}")
        return url.replace("http", "ws", 1)

    async def _join(self, socket: "ClientConnection") -> None:
        """Join the channel. Raises ConfigurationError where the project does not let it."""
        key = self._client.project.service_key
        payload: dict[str, Any] = {"config": {"private": True}}
        if not key.is_opaque:
            payload["access_token"] = key.value
        await _push(socket, self._topic, "phx_join", JOIN_REF, payload)
        while True:
            frame = orjson.loads(await socket.recv())
            if (frame["event"], frame["ref"]) == ("phx_reply", JOIN_REF):
                if frame["payload"]["status"] != "ok":
                    _reject(str(frame["payload"]["response"].get("reason")))
                return

    async def _texts(self, socket: "ClientConnection") -> AsyncGenerator[Sequence[str]]:
        next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        is_answered = True
        while True:
            try:
                async with asyncio.timeout(max(0.0, next_heartbeat - time.monotonic())):
                    frame = orjson.loads(await socket.recv())
            except TimeoutError:
                if not is_answered:
                    raise Unavailable("Realtime of the Supabase project does not respond") from None
                await _push(socket, "phoenix", "heartbeat", "0", {})
                next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
                is_answered = False
                yield ()
                continue
            if frame["topic"] == "phoenix":
                is_answered = True
            elif text := self._text_of(frame):
                yield (text,)

    def _text_of(self, frame: dict[str, Any]) -> str | None:
        """Return the text of a broadcast. Raises Unavailable where the channel has ended."""
        match frame:
            case {"topic": topic} if topic != self._topic:
                return None
            case {"event": "broadcast", "payload": {"payload": {"text": str() as text}}}:
                return text
            case {"event": "phx_close" | "phx_error"}:
                raise Unavailable("Realtime of the Supabase project has closed the channel")
            case {"event": "system", "payload": {"status": "error"}}:
                raise Unavailable("Realtime of the Supabase project has reported an error")
        return None

    @property
    def _topic(self) -> str:
        return TOPIC_PREFIX + self._channel


async def _push(
    socket: "ClientConnection", topic: str, event: str, ref: str, payload: dict[str, Any]
) -> None:
    frame = {"topic": topic, "event": event, "payload": payload, "ref": ref}
    await socket.send(orjson.dumps(frame).decode())


def _reject(reason: str) -> NoReturn:
    raise ConfigurationError(
        f"Realtime of the Supabase project does not let the service listen ({reason}): compare "
        "SUPABASE_SERVICE_KEY, and see that Realtime is on"
    )
