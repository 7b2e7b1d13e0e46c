"""Password hashes: argon2id for new ones; bcrypt, argon2 and Firebase's from elsewhere verify too.

Hashing takes tens of milliseconds of a core, so it runs in a small pool of its own with a bounded
queue: other requests go on meanwhile, and a flood of sign-ins is rejected rather than piled up.
"""

import asyncio
import base64
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

import argon2
import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from amphibase.accounts.firebase_scrypt import FirebaseScrypt
from amphibase.allocator import trim
from amphibase.errors import InvalidRequest, TooManyRequests, WeakPassword

Result = TypeVar("Result")

MAX_PASSWORD_BYTES = 1024
"""Long enough for every passphrase, short enough that hashing stays cheap."""

BCRYPT_BYTES = 72
"""bcrypt reads no further (its authors' paper, section 4)."""

COMPARABLE_BCRYPT_COST = 10
"""The cost of bcrypt, a power of two, up to which a hash is no stronger than a new one."""

SUFFICIENT_DIGEST_BYTES = 16

QUEUE_PER_WORKER = 32

NICENESS = 10

TRIM_SECONDS = 1
"""After which the memory of hashing goes back to the system, if no other password comes."""


def _random_base64(size: int) -> str:
    return base64.b64encode(os.urandom(size)).rstrip(b"=").decode()


HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""OWASP's "Password Storage Cheat Sheet": 19 MiB, two passes, one lane."""

# A step more doubles the time: 15 takes two seconds, 20 would take more than a minute.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i)\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
)


class _Hashing:
    """How new passwords are hashed.

    Attributes:
        dummy: a hash that no password has, for its digest is random; to verify it takes the usual
            time.
    """

    def __init__(self, hasher: argon2.PasswordHasher) -> None:
        self.hasher = hasher
        cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
        self.dummy = f"$argon2id$v=19${cost}${_random_base64(16)}${_random_base64(32)}"


_hashing = _Hashing(HASHER)


@contextmanager
def hashing_by(hasher: argon2.PasswordHasher) -> Iterator[None]:
    """Hash by other parameters in this process until the block ends: tests do at the least cost."""
    global _hashing
    before, _hashing = _hashing, _Hashing(hasher)
    try:
        yield
    finally:
        _hashing = before


def hash_password(password: str) -> str:
    """Hash with argon2id; blocks for tens of milliseconds, so not inside a coroutine."""
    return _hashing.hasher.hash(_encoded(password))


def verify_password(password: str, hashed: str | None) -> bool:
    """Return whether the password matches; blocks like `hash_password`.

    Args:
        hashed: argon2id, argon2i, bcrypt (`$2a$`, `$2b$`, `$2y$`) or `$fbscrypt$`. None, or a hash
            of another kind, never matches, and takes as long as one that does.
    """
    secret = _encoded(password)
    if len(secret) > MAX_PASSWORD_BYTES:
        secret, hashed = b"", None
    if hashed and _BCRYPT.fullmatch(hashed):
        return bcrypt.checkpw(secret[:BCRYPT_BYTES], hashed.encode())
    if hashed and (firebase := FirebaseScrypt.parse(hashed)):
        return firebase.matches(secret)
    known = hashed is not None and _is_argon2(hashed)
    try:
        _hashing.hasher.verify(hashed if known and hashed else _hashing.dummy, secret)
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False
    return known


def needs_rehash(hashed: str) -> bool:
    """Return whether a hash that just matched should be replaced by a new one.

    A hash is never replaced by a weaker one. An argon2id hash is replaced where its memory times
    its passes, by which the cost of a guess grows, is less than a new hash's, or its digest is
    shorter than the 128 bits that RFC 9106 (section 4) calls sufficient. Lanes do not count: they
    divide the work. bcrypt is replaced up to the cost 10, which OWASP's "Password Storage Cheat
    Sheet" names as the least beside the parameters of a new hash. argon2i and Firebase's scrypt
    are replaced always.
    """
    if bcrypt_hash := _BCRYPT.fullmatch(hashed):
        return int(bcrypt_hash[1]) <= COMPARABLE_BCRYPT_COST
    if not hashed.startswith("$argon2id$") or not _is_argon2(hashed):
        return True
    stored = argon2.extract_parameters(hashed)
    new = _hashing.hasher
    is_cheaper = stored.memory_cost * stored.time_cost < new.memory_cost * new.time_cost
    return is_cheaper or stored.hash_len < SUFFICIENT_DIGEST_BYTES


def check_hash(hashed: str) -> None:
    """Raise InvalidRequest unless `verify_password` can check hashes of this kind."""
    if not (_BCRYPT.fullmatch(hashed) or _is_argon2(hashed) or FirebaseScrypt.parse(hashed)):
        raise InvalidRequest(
            "The password hash must be bcrypt (of cost 15 at the most), argon2 (argon2id, "
            "argon2i; v=19) or Firebase's scrypt ($fbscrypt$v=1)"
        )


def check_strength(password: str, min_length: int) -> None:
    """Raise WeakPassword unless the password has a length that we take (in characters)."""
    if len(password) < min_length:
        raise WeakPassword(f"The password must have at least {min_length} characters")
    if len(_encoded(password)) > MAX_PASSWORD_BYTES:
        raise WeakPassword(f"The password must have at most {MAX_PASSWORD_BYTES} bytes")


def _encoded(password: str) -> bytes:
    # Half of a surrogate pair is no UTF-8, but no reason to fail.
    return password.encode("utf-8", "surrogatepass")


def _is_argon2(hashed: str) -> bool:
    # The bounds keep a hash that was brought in from costing a gigabyte at each sign-in.
    match = _ARGON2.fullmatch(hashed)
    if match is None:
        return False
    memory, passes, lanes = map(int, match.groups())
    return memory <= 1 << 20 and passes <= 20 and lanes <= 16


def _cores() -> int:
    if sys.platform == "linux":  # which knows how many of them this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _give_way() -> None:
    """Let all other threads have the cores first: hashing takes what they leave.

    Linux has a priority for each thread (setpriority(2), "C library/kernel differences").
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid the call: passwords are hashed all the same
            own = os.getpriority(os.PRIO_PROCESS, thread)  # below which it may not go
            os.setpriority(os.PRIO_PROCESS, thread, max(own, NICENESS))


class PasswordWorkers:
    """Hashes and verifies off the event loop, with a bounded queue.

    Args:
        workers: how many hashes are computed at once; by default as many as there are cores.
    """

    def __init__(self, workers: int | None = None) -> None:
        count = workers or _cores()
        self._pool = ThreadPoolExecutor(
            count, thread_name_prefix="passwords", initializer=_give_way
        )
        self._capacity = count * QUEUE_PER_WORKER
        self._pending = 0
        self._trimming: asyncio.TimerHandle | None = None

    async def hash(self, password: str) -> str:
        """Hash a password; see `hash_password`. Raises TooManyRequests when the queue is full."""
        return await self._run(lambda: hash_password(password))

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Verify a password; see `verify_password`. Raises TooManyRequests when the queue is
        full."""
        return await self._run(lambda: verify_password(password, hashed))

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._pending >= self._capacity:
            raise TooManyRequests("Too many people are signing in just now", retry_after=2)
        self._pending += 1
        future = self._pool.submit(work)
        # Counted until the thread is done: a caller that goes away frees no place in the queue.
        future.add_done_callback(self._done_in(asyncio.get_running_loop()))
        return await asyncio.wrap_future(future)

    def _done_in(self, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        def done(_: object) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._release, loop)

        return done

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pending -= 1
        if not self._pending:
            if self._trimming is not None:
                self._trimming.cancel()
            self._trimming = loop.call_later(TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        with suppress(RuntimeError):  # the pool was closed meanwhile
            self._pool.submit(trim)

    def close(self) -> None:
        """Stop the threads; what is queued is dropped."""
        if self._trimming is not None:
            self._trimming.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
