"""Which access tokens the product accepts, by their signature and claims alone."""

import time
from typing import Any
from uuid import uuid4

import pytest

from amphibase import InvalidToken
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.token_check import TokenCheck
from amphibase.schema.tables import tables

KEYS = KeyRing([Key.generate()])
CHECK = TokenCheck(tables("sqlite"), KEYS)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {
        "sub": str(uuid4()),
        "aud": "authenticated",
        "session_id": str(uuid4()),
        "exp": now + 60,
    }
    return {name: value for name, value in (usual | changes).items() if value != "missing"}


@pytest.mark.parametrize(
    "changes",
    [{}, {"aud": ["others", "authenticated"]}, {"session_id": None}, {"data": "x" * 20_000}],
)
def test_a_token_of_ours_names_its_caller(changes: dict[str, Any]) -> None:
    issued = claims(**changes)
    caller = CHECK.claimed(KEYS.issue(issued))
    assert (str(caller.user_id), caller.role) == (issued["sub"], "authenticated")


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": "missing"},
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"aud": "missing"},
        {"aud": None},
        {"aud": []},
        {"aud": "others"},
        {"aud": ["others"]},
        {"sub": "missing"},
        {"sub": "no uuid"},
        {"sub": 7},
        {"session_id": "no uuid"},
        {"session_id": 7},
        {"nbf": int(time.time()) + 86_400},
    ],
)
def test_any_other_is_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        CHECK.claimed(KEYS.issue(claims(**changes)))
