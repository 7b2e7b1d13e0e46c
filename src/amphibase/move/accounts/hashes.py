"""Password hashes by kind: which the other side verifies as they are, and which stay behind."""

import json
from enum import StrEnum

from amphibase.accounts.passwords import check_hash
from amphibase.errors import InvalidRequest

MAX_CHARACTERS = 255
"""Of the column `encrypted_password`, and of the admin API."""

ENCRYPTION_FIELDS = {"key_id", "alg", "data"}
"""What Supabase Auth writes of a value that it has encrypted with a key of its own
(supabase/auth, `internal/crypto`, `EncryptedString`)."""


class HashKind(StrEnum):
    """What a password hash is; each account is counted under one."""

    NONE = "no password"
    ARGON2ID = "argon2id"
    ARGON2I = "argon2i"
    BCRYPT = "bcrypt"
    FIREBASE_SCRYPT = "Firebase scrypt"
    ENCRYPTED = "encrypted at rest"
    REFUSED = "not verifiable"

    @property
    def moves(self) -> bool:
        """Whether the account's password is the same afterwards."""
        return self not in (HashKind.ENCRYPTED, HashKind.REFUSED)


PREFIXES = (
    ("$argon2id$", HashKind.ARGON2ID),
    ("$argon2i$", HashKind.ARGON2I),
    ("$fbscrypt$", HashKind.FIREBASE_SCRYPT),
    ("$2", HashKind.BCRYPT),
)


def kind_of(hashed: str | None) -> HashKind:
    """Return the kind of a hash.

    Both sides verify the same kinds within the same bounds; what they do not is `REFUSED`: another
    algorithm, a version of argon2 before 1.3, or a hash that costs too much to check.
    """
    if not hashed:
        return HashKind.NONE
    if is_encrypted(hashed):
        return HashKind.ENCRYPTED
    try:
        check_hash(hashed)
    except InvalidRequest:
        return HashKind.REFUSED
    if len(hashed) > MAX_CHARACTERS:
        return HashKind.REFUSED
    return next(kind for prefix, kind in PREFIXES if hashed.startswith(prefix))


def is_encrypted(value: str) -> bool:
    """Return whether Supabase Auth has encrypted a hash or a secret; only its own key reads it."""
    if not value.startswith("{"):
        return False
    try:
        fields = json.loads(value)
    except ValueError:
        return False
    return isinstance(fields, dict) and fields.keys() >= ENCRYPTION_FIELDS
