"""The tokens of sockets and channels: which open them, and for how long."""

import asyncio
import re
import time
from typing import Any

import pytest
from tests.gateway.realtime.api import ANON, BOB, Api, rejection
from tests.gateway.realtime.conftest import Connect, ServeRealtime

ROOM = "realtime:room"


async def test_the_token_of_a_join_may_have_its_older_name(api: Api, connect: Connect) -> None:
    wire = await connect(api)
    config: dict[str, Any] = {"config": {}}
    for tokens, reason in (
        ({"user_token": api.token()}, None),
        ({"access_token": "sb_publishable_x", "user_token": "a.b.c"}, None),
        ({"access_token": api.token(), "user_token": "a.b.c"}, "MalformedJWT"),
        ({"access_token": ""}, "MalformedJWT"),
    ):
        reply = await wire.reply(f"realtime:{reason}{len(tokens)}", "phx_join", config | tokens)
        assert reply["response"].get("reason", "").partition(":")[0] == (reason or "")


@pytest.mark.parametrize("closes", [False, True])
async def test_a_channel_ends_with_its_token_and_lets_the_client_join_again(
    serve: ServeRealtime, connect: Connect, *, closes: bool
) -> None:
    api = await serve(closes_at_expiry=closes)
    wire = await connect(api)
    await wire.join(ROOM, api.token(exp=time.time() + 3))
    expired = [await wire.receive(), await wire.receive()]
    assert expired[0][3:] == [
        "system",
        {
            "extension": "system",
            "status": "error",
            "message": "Token has expired 0 seconds ago",
            "channel": "room",
        },
    ]
    assert expired[1][3] == ("phx_close" if closes else "phx_error")


async def test_a_new_token_counts_from_then_on(api: Api, connect: Connect) -> None:
    wire = await connect(api)
    await wire.join(ROOM, api.token(exp=time.time() + 4))
    ignored: list[Any] = [None, "sb_publishable_abc", 5]
    for token in (*ignored, api.token(BOB)):
        await wire.push(ROOM, "access_token", {"access_token": token})
    await asyncio.sleep(4.1)
    assert await wire.is_silent()
    await wire.push(ROOM, "access_token", {"access_token": "a.b.c"})
    assert (await wire.receive())[4]["message"] == "The token provided is not a valid JWT"
    assert (await wire.receive())[3] == "phx_close"


async def test_a_token_that_is_not_valid_opens_no_socket_and_no_channel(
    api: Api, connect: Connect
) -> None:
    foreign = ANON[:-4] + "AAAA"
    past = api.token(exp=time.time() - 7000)
    expected = [
        (None, "API key is missing", None),
        ("nonsense", "The token provided is not a valid JWT", "MalformedJWT"),
        (foreign, "Failed to validate JWT signature", "JwtSignatureError"),
        (api.token(role=None), "Fields `role` and `exp` are required in JWT", "InvalidJWTToken"),
        (past, "Token has expired", "InvalidJWTToken"),
    ]
    wire = await connect(api)
    for token, error, code in expected:
        assert await rejection(api, token) == (401, {"error": error})
        if code:
            reason = await wire.join(ROOM, token)
            assert reason.startswith(f"{code}: {error}")
    assert re.fullmatch("InvalidJWTToken: Token has expired 70[0-5][0-9] seconds ago", reason)
