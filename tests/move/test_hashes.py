"""Password hashes by kind."""

import json

import bcrypt
import pytest
from argon2 import PasswordHasher, Type

from amphibase.move.accounts.hashes import HashKind, kind_of

ARGON2ID = PasswordHasher(1, 8, 1).hash("password")
BCRYPT = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
FIREBASE = "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=ou9tdYTGyYm8kuR6Dt0Bp0kDuAYoXrK16mbZO4yGwAn3oLspjnN0/c41v8xZnO1n14J3MjKj1b2g6AUCAlFwMw==$C0sHCg9ek77hsg==$ZGlmZmVyZW50"  # noqa: E501


@pytest.mark.parametrize(
    ("hashed", "kind", "moves"),
    [
        (None, HashKind.NONE, True),
        ("", HashKind.NONE, True),
        (ARGON2ID, HashKind.ARGON2ID, True),
        (PasswordHasher(1, 8, 1, type=Type.I).hash("password"), HashKind.ARGON2I, True),
        (PasswordHasher(1, 8, 1, type=Type.D).hash("password"), HashKind.REFUSED, False),
        (ARGON2ID.replace("v=19", "v=16"), HashKind.REFUSED, False),
        (BCRYPT, HashKind.BCRYPT, True),
        (BCRYPT.replace("$2b$", "$2y$"), HashKind.BCRYPT, True),  # PHP's
        (BCRYPT.replace("$04$", "$20$"), HashKind.REFUSED, False),  # minutes for each sign-in
        (f"bcrypt_sha256${BCRYPT}", HashKind.REFUSED, False),  # Django's
        (FIREBASE, HashKind.FIREBASE_SCRYPT, True),
        (f"{ARGON2ID}{'A' * 300}", HashKind.REFUSED, False),  # longer than the column
        (json.dumps({"key_id": "1", "alg": "a", "data": "d"}), HashKind.ENCRYPTED, False),
        ('{"not": "encrypted"}', HashKind.REFUSED, False),
        ("5f4dcc3b5aa765d61d8327deb882cf99", HashKind.REFUSED, False),
    ],
    ids=range(15),  # since the hashes are others in each process
)
def test_a_hash_moves_where_both_sides_verify_its_kind(
    hashed: str | None, kind: HashKind, moves: bool
) -> None:
    assert (kind_of(hashed), kind_of(hashed).moves) == (kind, moves)
