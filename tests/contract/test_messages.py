"""Messages between callers: a topic's rules decide who gets them and who sends them."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from redis import Redis
from tests.backends import ANN, BOB, Records
from tests.column_models import Seat
from tests.contract.conftest import opened
from tests.models import Task

from amphibase import ANONYMOUS, SERVICE, Caller
from amphibase.access import Rule, admin, authenticated, everyone, owner
from amphibase.backend import Backend, Message, Messages, Topic, TopicRequest
from amphibase.errors import (
    ConfigurationError,
    Forbidden,
    InvalidValue,
    NotSupported,
    PayloadTooLarge,
    SlowSubscriber,
    Unavailable,
)
from amphibase.messages import delivery
from amphibase.messages.access import readers_of
from amphibase.settings.application import Settings

SECONDS = 60
"""How long a test waits for a message at most."""

KINDS = ("sqlite", "postgres", "supabase", "redis")
"""Of backends: the others carry messages as one of these."""

ADMIN = Caller("authenticated", uuid4(), claims={"app_metadata": {"role": "admin"}})


async def is_in_room(request: TopicRequest) -> bool:
    return request.caller.user_id is not None and request.params["id"] != "secret"


ROOMS = Topic("rooms/{id}", read=is_in_room, write=is_in_room)
OPEN = Topic("open/{id}", read=everyone, write=everyone)
TASKS = Topic("tasks/{id}", read=readers_of(Task), write=readers_of(Task))


async def payloads(messages: Messages, count: int) -> list[object]:
    async with asyncio.timeout(SECONDS):
        return [(await anext(messages)).payload for _ in range(count)]


def messages_url_of(settings: Settings) -> str:
    """Return the URL of what carries messages; that of a project is empty."""
    url = settings.messages_url.get_secret_value()
    return url or (settings.supabase_db_url or settings.database_url).get_secret_value()


def cut_listeners(url: str) -> None:
    """End the connections that listen."""
    if url.startswith("redis"):
        with Redis.from_url(url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN %'"
        )


def send_raw(url: str, text: str) -> None:
    """Send a text on the channel of messages."""
    if url.startswith("redis"):
        with Redis.from_url(url) as client:
            client.publish("amphibase:messages:0", text)
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('amphibase_messages', %s)", [text])


@pytest.fixture
async def other_process(backend_settings: Settings, backend: Backend) -> AsyncIterator[Backend]:
    """Another backend on the same database, which shares nothing else with the first."""
    async with opened(backend_settings) as other:
        yield other


@pytest.mark.parametrize("backend_settings", KINDS, indirect=True)
class TestATopic:
    async def test_has_what_each_process_publishes_in_order(
        self, backend: Backend, other_process: Backend
    ) -> None:
        topic = ROOMS(id="ä/1")
        async with backend.subscribe(topic, ANN) as ann, backend.subscribe(topic, BOB) as bob:
            await backend.publish(topic, {"text": "käse \0"}, ANN)
            await other_process.publish(topic, [1, None], BOB)
            await backend.publish(topic, "end", SERVICE)
            async with asyncio.timeout(SECONDS):
                received = [await anext(ann) for _ in range(3)]
            assert received == [
                Message("rooms/%C3%A4%2F1", {"text": "käse \0"}, ANN.user_id),
                Message("rooms/%C3%A4%2F1", [1, None], BOB.user_id),
                Message("rooms/%C3%A4%2F1", "end", None),
            ]
            assert await payloads(bob, 3) == [{"text": "käse \0"}, [1, None], "end"]

    async def test_has_nothing_of_other_topics_and_nothing_from_before(
        self, backend: Backend
    ) -> None:
        await backend.publish(ROOMS(id=1), "before", ANN)
        async with backend.subscribe(ROOMS(id=1), ANN) as messages:
            await backend.publish(ROOMS(id=2), "elsewhere", ANN)
            await backend.publish(ROOMS(id="1/2"), "elsewhere", ANN)
            await backend.publish(ROOMS(id=1), "here", ANN)
            assert await payloads(messages, 1) == ["here"]
        async with backend.subscribe(ROOMS(id=1), ANN) as messages:  # it listens again
            await backend.publish(ROOMS(id=1), "again", ANN)
            assert await payloads(messages, 1) == ["again"]

    async def test_takes_messages_of_7000_bytes_and_names_of_500(self, backend: Backend) -> None:
        topic = OPEN(id="x" * 495)
        async with backend.subscribe(topic, ANN) as messages:
            with pytest.raises(PayloadTooLarge, match="7001 bytes"):
                await backend.publish(topic, "x" * 6999, ANN)
            for payload in (object(), json.loads("[" * 220 + "]" * 220)):
                with pytest.raises(InvalidValue):
                    await backend.publish(topic, payload, ANN)
            await backend.publish(topic, "é" * 3499, ANN)
            assert await payloads(messages, 1) == ["é" * 3499]
        with pytest.raises(ValueError, match="at most 500"):
            OPEN(id="x" * 496)

    async def test_ends_for_a_subscriber_who_takes_nothing_and_for_no_other(
        self, backend: Backend, backend_settings: Settings
    ) -> None:
        settings = backend_settings.model_copy(update={"max_queued_messages": 3})
        async with (
            opened(settings) as other,
            other.subscribe(OPEN(id=1), ANN) as slow,
            other.subscribe(OPEN(id=1), BOB) as quick,
        ):
            for number in range(5):
                await backend.publish(OPEN(id=1), number, ANN)
                assert await payloads(quick, 1) == [number]
            assert await payloads(slow, 3) == [0, 1, 2]
            with pytest.raises(SlowSubscriber):
                await anext(slow)

    async def test_is_left_when_its_rule_does_not_admit_a_subscriber_any_more(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        members = {ANN.user_id}
        topic = Topic("club", read=lambda request: request.caller.user_id in members)()
        async with backend.subscribe(topic, ANN) as messages:
            await backend.publish(topic, 1, SERVICE)
            assert await payloads(messages, 1) == [1]
            monkeypatch.setattr(delivery, "RECHECK_SECONDS", 0)
            members.clear()
            await backend.publish(topic, 2, SERVICE)
            with pytest.raises(Forbidden):
                await payloads(messages, 1)

    async def test_ends_when_the_backend_closes(self, backend: Backend) -> None:
        async with backend.subscribe(OPEN(id=1), ANN) as messages:
            await backend.close()
            with pytest.raises(Unavailable):
                await payloads(messages, 1)

    async def test_ends_with_an_error_when_the_database_is_lost(
        self, backend: Backend, backend_settings: Settings
    ) -> None:
        url = messages_url_of(backend_settings)
        if not url.startswith(("postgres", "redis")):
            pytest.skip("its connection cannot be cut from here")
        async with backend.subscribe(OPEN(id=1), ANN) as messages:
            cut_listeners(url)
            with pytest.raises(Unavailable, match="missed"):
                await payloads(messages, 1)
        async with backend.subscribe(OPEN(id=1), ANN) as messages:
            await backend.publish(OPEN(id=1), "back", SERVICE)
            assert await payloads(messages, 1) == ["back"]

    async def test_ignores_what_others_send_on_its_channel(
        self, backend: Backend, backend_settings: Settings
    ) -> None:
        url = messages_url_of(backend_settings)
        if not url.startswith(("postgres", "redis")):
            pytest.skip("has no channel that others reach")
        async with backend.subscribe(OPEN(id=1), ANN) as messages:
            for text in ("", "nonsense", "[1]", '["open/1", "no id", 1]', "[" * 5000):
                send_raw(url, text)
            await backend.publish(OPEN(id=1), "mine", ANN)
            assert await payloads(messages, 1) == ["mine"]


@pytest.mark.parametrize("backend_settings", ["redis"], indirect=True)
async def test_redis_carries_more_messages_at_once_than_there_are_connections(
    backend: Backend,
) -> None:
    async with backend.subscribe(OPEN(id=1), ANN) as messages:
        await asyncio.gather(*(backend.publish(OPEN(id=1), n, ANN) for n in range(150)))
        assert {*await payloads(messages, 150)} == {*range(150)}


@pytest.mark.requires("messages")
@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        (None, [SERVICE]),
        (everyone, [ANONYMOUS, ANN, ADMIN, SERVICE]),
        (authenticated, [ANN, ADMIN, SERVICE]),
        (admin, [ADMIN, SERVICE]),
        (authenticated & admin, [ADMIN, SERVICE]),
        (authenticated | admin, [ANN, ADMIN, SERVICE]),
        (lambda request: request.caller == BOB, [SERVICE]),
        (lambda request: "yes", [SERVICE]),
    ],
)
async def test_a_rule_decides_who_subscribes_and_who_publishes(
    backend: Backend, rule: Rule | None, admitted: list[Caller]
) -> None:
    reading = (Topic("a") if rule is None else Topic("a", read=rule))()
    writing = (Topic("a") if rule is None else Topic("a", write=rule))()
    for caller in (ANONYMOUS, ANN, ADMIN, SERVICE):
        if caller in admitted:
            async with backend.subscribe(reading, caller):
                await backend.publish(writing, 1, caller)
            continue
        with pytest.raises(Forbidden):
            async with backend.subscribe(reading, caller):
                pass
        with pytest.raises(Forbidden):
            await backend.publish(writing, 1, caller)


@pytest.mark.requires("messages")
async def test_the_readers_of_a_row_are_those_whom_its_model_admits(records: Records) -> None:
    task = await records.of(Task, ANN).add(Task(title="tea"))
    await records.backend.publish(TASKS(id=task.id), 1, ANN)
    other_name = str(task.id).upper()
    for caller, id in (
        (BOB, task.id),
        (ANONYMOUS, task.id),
        (ANN, uuid4()),
        (ANN, "no id"),
        (ANN, other_name),
    ):
        with pytest.raises(Forbidden):
            await records.backend.publish(TASKS(id=id), 1, caller)
    elsewhere = Topic("tasks/{task}", write=readers_of(Task))
    with pytest.raises(ConfigurationError, match="no parameter id"):
        await records.backend.publish(elsewhere(task=task.id), 1, ANN)
    with pytest.raises(TypeError, match="several columns"):
        readers_of(Seat)


@pytest.mark.parametrize("backend_settings", ["postgres"], indirect=True)
async def test_a_backend_without_messages_says_so(backend_settings: Settings) -> None:
    settings = backend_settings.model_copy(update={"pool_mode": "transaction"})
    async with opened(settings) as pooled:
        with pytest.raises(NotSupported, match="messages"):
            await pooled.publish(OPEN(id=1), 1, ANN)
        with pytest.raises(NotSupported, match="messages"):
            async with pooled.subscribe(OPEN(id=1), ANN):
                pass


@pytest.mark.parametrize("template", ["", "rooms/{id", "rooms/{}", "{a}/{a}", "rooms/ä", "a b"])
def test_a_template_that_is_malformed_is_rejected(template: str) -> None:
    with pytest.raises(ValueError, match="was expected"):
        Topic(template)


def test_a_rule_that_needs_a_row_is_rejected() -> None:
    with pytest.raises(TypeError, match="read must be everyone"):
        Topic("a", read=owner | everyone)
    with pytest.raises(TypeError, match="write must be everyone"):
        Topic("a", write=True)  # type: ignore[arg-type]


def test_a_topic_needs_its_own_parameters() -> None:
    with pytest.raises(TypeError, match="parameters: id"):
        ROOMS(room=1)
