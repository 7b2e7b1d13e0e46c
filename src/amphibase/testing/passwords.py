"""Passwords of tests, which are no secrets: hashed at the least cost, no sign-in waits for them."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher

from amphibase.accounts import passwords


@contextmanager
def cheap_hashes() -> Iterator[None]:
    """Hash passwords at the least cost until the block ends, those that match nobody's too."""
    before = passwords._HASHER, passwords._DUMMY
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    passwords._HASHER, passwords._DUMMY = hasher, hasher.hash(secrets.token_urlsafe())
    try:
        yield
    finally:
        passwords._HASHER, passwords._DUMMY = before
