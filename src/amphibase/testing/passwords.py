"""Passwords of tests, which are no secrets: hashed at the least cost, no sign-in waits for them."""

from contextlib import AbstractContextManager

from argon2 import PasswordHasher

from amphibase.accounts.passwords import hashing_by


def cheap_hashes() -> AbstractContextManager[None]:
    """Hash passwords at the least cost until the block ends, those that match nobody's too."""
    return hashing_by(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
