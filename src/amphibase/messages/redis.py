"""Carries messages and keeps presences in Redis, for processes that share one."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from amphibase.errors import Unavailable
from amphibase.messages.presence_store import LIFETIME_SECONDS, Beat, StoredPresence

PREFIX = "amphibase:"
TIMEOUT_SECONDS = 5
MAX_CONNECTIONS = 20
"""Of a client; calls beyond them wait for one as long as for a response."""
PROBE_SECONDS = 15
"""How often a silent connection is tried."""


class RedisMessages:
    """`PUBLISH` and `SUBSCRIBE` on one channel (Redis's docs, "Pub/sub").

    Channels are common to all databases of a server, so the number of this one is in its name.
    """

    def __init__(self, url: str) -> None:
        self._client = client_of(url)
        number = self._client.connection_pool.connection_kwargs.get("db", 0)
        self._channel = f"{PREFIX}messages:{number}"

    async def send(self, text: str) -> None:
        """Send a text to all who listen."""
        with translated_redis_errors():
            await self._client.publish(self._channel, text)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Sequence[str]]]:
        """Open the stream of texts, on a connection of its own."""
        with translated_redis_errors():
            async with self._client.pubsub() as pubsub:
                await pubsub.subscribe(self._channel)
                await pubsub.get_message(timeout=TIMEOUT_SECONDS)  # that it has subscribed
                async with aclosing(_texts(pubsub)) as texts:
                    yield texts

    async def check(self) -> None:
        """Reach the server. Raises Unavailable."""
        with translated_redis_errors():
            await self._client.ping()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class RedisPresences:
    """The presences in a Redis, whose clock decides who is alive.

    A hash for each topic has its presences, a set for each process those that it has stored, and a
    sorted set when each process was seen.
    """

    def __init__(self, url: str) -> None:
        self._client = client_of(url)
        self._scripts = {
            name: self._client.register_script(
                files(__package__).joinpath(f"redis_{name}.lua").read_text()
            )
            for name in ("put", "remove", "read", "beat")
        }

    async def put(self, stored: StoredPresence, most: int) -> bool:
        """Add a presence, or replace its payload; return False where the topic is full."""
        values = [value or "" for value in stored.values.values()]
        return bool(await self._run("put", [*values, most]))

    async def remove(self, presences: Collection[StoredPresence]) -> None:
        """Remove presences, those of them that are there."""
        arguments = [
            part for each in presences for part in (each.process, each.topic, each.presence.id)
        ]
        await self._run("remove", arguments)

    async def read(
        self, topic: str, ids: Collection[str] | None = None
    ) -> Sequence[StoredPresence]:
        """Return the presences of living processes on a topic, the oldest first."""
        alive, *fields = await self._run("read", [topic, LIFETIME_SECONDS, *(ids or ())])
        entries = [
            (float(joined), id, process, user_id, text)
            for id, value in zip(fields[::2], fields[1::2], strict=True)
            for joined, process, user_id, text in [value.split(" ", 3)]
            if process in alive
        ]
        return [
            StoredPresence.of(id, topic, process, user_id, text)
            for _, id, process, user_id, text in sorted(entries)
        ]

    async def beat(self, process: str) -> Beat:
        """Record that a process is alive, and remove those that are not, with their presences."""
        was_alive, *alive = await self._run("beat", [process, LIFETIME_SECONDS])
        return Beat(bool(was_alive), frozenset(alive))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _run(self, name: str, arguments: Sequence[Any]) -> Any:
        with translated_redis_errors():
            return await self._scripts[name](keys=[PREFIX], args=arguments)


def client_of(url: str) -> Redis:
    """Return a client that repeats nothing: a connection that comes back by itself would hide that
    messages were missed."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT_SECONDS,
        decode_responses=True,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


async def _texts(pubsub: PubSub) -> AsyncGenerator[Sequence[str]]:
    is_answered = True
    while True:
        message = await pubsub.get_message(timeout=PROBE_SECONDS)
        if message is None:
            if not is_answered:
                raise Unavailable("Redis does not respond")
            await pubsub.ping()
            is_answered = False
            yield ()
        elif message["type"] == "message":
            yield (message["data"],)
        else:
            is_answered = True


@contextmanager
def translated_redis_errors() -> Iterator[None]:
    """Raise what the client raises inside the block as Unavailable."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("The Redis of MESSAGES_URL cannot be reached just now") from error
