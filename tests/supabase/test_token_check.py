"""Tokens of a project whose keys are published: fetched seldom, and rotated without a restart."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from amphibase import ConfigurationError, InvalidToken, load_settings
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.models import utc_now
from amphibase.supabase import token_check
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.project import SupabaseProject
from amphibase.supabase.token_check import LocalTokenCheck

OLD, NEW, FOREIGN = KeyRing([Key.generate()]), KeyRing([Key.generate()]), KeyRing([Key.generate()])
SECRET = "the shared secret of a project, which older ones have"


def token(keys: KeyRing, **claims: Any) -> str:
    expires = utc_now() + timedelta(minutes=5)
    values = {"sub": str(uuid4()), "aud": "authenticated", "exp": int(expires.timestamp())}
    return keys.issue({**values, **claims})


class KeySet:
    """The endpoint of a project's keys."""

    def __init__(self, *rings: KeyRing) -> None:
        self.rings = rings
        self.others: list[dict[str, str]] = []
        self.requests = 0
        self.status = 200

    async def respond(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/auth/v1/.well-known/jwks.json"
        self.requests += 1
        await asyncio.sleep(0.01)
        keys = [key for ring in self.rings for key in ring.jwks()["keys"]]
        return httpx.Response(self.status, json={"keys": [*self.others, *keys]})


@pytest.fixture
def key_set() -> KeySet:
    return KeySet(OLD)


@pytest.fixture
async def client(key_set: KeySet) -> AsyncIterator[SupabaseClient]:
    settings = load_settings(
        supabase_url="https://abc.example",
        supabase_anon_key="sb_publishable_x",
        supabase_service_key="sb_secret_x",
        supabase_jwt_secret=SECRET,
    )
    http = httpx.AsyncClient(transport=httpx.MockTransport(key_set.respond))
    opened = SupabaseClient(SupabaseProject.of(settings), http)
    yield opened
    await opened.close()


@pytest.fixture
async def check(client: SupabaseClient) -> LocalTokenCheck:
    check = LocalTokenCheck(client)
    await check.start()
    return check


async def test_no_token_costs_a_request(check: LocalTokenCheck, key_set: KeySet) -> None:
    shared = KeyRing([Key.from_secret(SECRET)])
    for _ in range(10):
        await check.admit(token(OLD))
        await check.admit(token(shared))
    assert key_set.requests == 1


async def test_a_new_key_is_fetched_once_for_all_that_wait(
    check: LocalTokenCheck, key_set: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_check, "MIN_INTERVAL_SECONDS", 0)
    key_set.rings = (OLD, NEW)
    await asyncio.gather(*(check.admit(token(NEW)) for _ in range(20)))
    await check.admit(token(OLD))
    assert key_set.requests == 2


async def test_tokens_of_a_key_that_was_withdrawn_are_rejected(
    check: LocalTokenCheck, key_set: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_check, "MIN_INTERVAL_SECONDS", 0)
    old = token(OLD)
    await check.admit(old)
    key_set.rings = (NEW,)
    await check.admit(token(NEW))
    with pytest.raises(InvalidToken):
        await check.admit(old)


async def test_made_up_keys_do_not_become_requests(check: LocalTokenCheck, key_set: KeySet) -> None:
    for _ in range(10):
        with pytest.raises(InvalidToken):
            await check.admit(token(FOREIGN))
    assert key_set.requests == 1


async def test_old_keys_are_fetched_anew_meanwhile(
    check: LocalTokenCheck, key_set: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_check, "MAX_AGE_SECONDS", 0)
    await check.admit(token(OLD))
    monkeypatch.undo()
    await asyncio.sleep(0.05)
    await check.admit(token(OLD))
    assert key_set.requests == 2


async def test_the_keys_are_kept_while_they_cannot_be_fetched(
    check: LocalTokenCheck, key_set: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_check, "MIN_INTERVAL_SECONDS", 0)
    key_set.status = 500
    with pytest.raises(InvalidToken):
        await check.admit(token(NEW))
    await check.admit(token(OLD))


async def test_a_public_key_is_no_shared_secret(check: LocalTokenCheck, key_set: KeySet) -> None:
    """The oldest attack on key sets: a token signed by HS256 with the text of a public key."""
    jwk = OLD.jwks()["keys"][0]
    for secret in (jwk["x"], jwk["kid"], str(jwk)):
        forged = KeyRing([Key.from_secret(secret, jwk["kid"])])
        with pytest.raises(InvalidToken):
            await check.admit(token(forged))
    assert key_set.requests == 1


async def test_secrets_and_unknown_kinds_in_a_key_set_are_ignored(
    client: SupabaseClient, key_set: KeySet
) -> None:
    secret = b"a secret that a key set publishes"
    encoded = base64.urlsafe_b64encode(secret).decode()
    key_set.others = [{"kty": "oct", "k": encoded, "alg": "HS256", "kid": "1"}, {"kty": "new"}]
    check = LocalTokenCheck(client)
    await check.start()
    await check.admit(token(OLD))
    with pytest.raises(InvalidToken):
        await check.admit(token(KeyRing([Key.from_secret(secret, "1")])))


async def test_a_project_without_keys_needs_its_secret(
    key_set: KeySet, client: SupabaseClient
) -> None:
    key_set.rings = ()
    await LocalTokenCheck(client).start()
    client.project = replace(client.project, jwt_secret=None)
    with pytest.raises(ConfigurationError, match="SUPABASE_JWT_SECRET"):
        await LocalTokenCheck(client).start()


@pytest.mark.parametrize("claims", [{"sub": None}, {"sub": "anon"}, {"aud": "others"}, {"aud": ""}])
async def test_a_token_that_is_no_users_is_rejected(
    check: LocalTokenCheck, claims: dict[str, Any]
) -> None:
    with pytest.raises(InvalidToken):
        await check.admit(token(OLD, **claims))
