"""Password hashes."""

import asyncio
import os
import sys
import threading
from base64 import b64encode

import pytest

from amphibase.accounts import passwords
from amphibase.accounts.passwords import HASHER, hash_password, hashing_by, needs_rehash


def test_new_hashes_cost_what_owasp_recommends() -> None:
    with hashing_by(HASHER):
        hashed = hash_password("correct horse battery")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def argon2_hash(memory: int, passes: int, *, kind: str = "argon2id", digest: int = 32) -> str:
    """Return the text of a hash with those parameters, which is of no password."""
    salt, hashed = (b64encode(bytes(size)).decode().rstrip("=") for size in (16, digest))
    return f"${kind}$v=19$m={memory},t={passes},p=1${salt}${hashed}"


@pytest.mark.parametrize(
    ("hashed", "replaced"),
    [
        pytest.param(argon2_hash(19 * 1024, 2), False, id="as a new one"),
        pytest.param(argon2_hash(64 * 1024, 3), False, id="more memory and passes"),
        pytest.param(argon2_hash(46 * 1024, 1), False, id="fewer passes over more memory"),
        pytest.param(argon2_hash(19 * 1024, 2, digest=64), False, id="longer digest"),
        pytest.param(argon2_hash(19 * 1024, 1), True, id="fewer passes"),
        pytest.param(argon2_hash(8 * 1024, 3), True, id="less memory than passes make up for"),
        pytest.param(argon2_hash(19 * 1024, 2, digest=8), True, id="short digest"),
        pytest.param(argon2_hash(19 * 1024, 2, kind="argon2i"), True, id="argon2i"),
        pytest.param("$2b$10$" + "a" * 53, True, id="bcrypt of the common cost"),
        pytest.param("$2y$11$" + "a" * 53, False, id="bcrypt of a higher cost"),
        pytest.param("$fbscrypt$v=1,n=14,r=8,p=1$" + "a" * 20, True, id="firebase"),
    ],
)
def test_a_hash_is_replaced_only_by_a_stronger_one(hashed: str, replaced: bool) -> None:
    with hashing_by(HASHER):
        assert needs_rehash(hashed) is replaced


async def test_the_memory_of_hashing_goes_back_once_no_more_passwords_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed: list[str] = []
    trimmed: list[int] = []
    monkeypatch.setattr(passwords, "trim", lambda: trimmed.append(len(hashed)))
    monkeypatch.setattr(passwords, "TRIM_SECONDS", 1)
    workers = passwords.PasswordWorkers(1)
    for _ in range(2):
        hashed.append(await workers.hash("correct horse battery"))
    assert trimmed == []
    while not trimmed:  # noqa: ASYNC110 - nothing else says so
        await asyncio.sleep(0.01)
    workers.close()
    assert trimmed == [2]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities there")
async def test_hashing_gives_way_to_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def priority(_: str) -> str:
        return str(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    monkeypatch.setattr(passwords, "hash_password", priority)
    workers = passwords.PasswordWorkers()
    of_hashing, own = await workers.hash("correct horse battery"), priority("")
    workers.close()
    assert int(of_hashing) > int(own)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities there")
async def test_passwords_are_hashed_where_priorities_may_not_be_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: int) -> None:  # as by systemd's SystemCallFilter=~@resources
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    workers = passwords.PasswordWorkers()
    hashed = await workers.hash("correct horse battery")
    assert await workers.verify("correct horse battery", hashed)
    workers.close()
