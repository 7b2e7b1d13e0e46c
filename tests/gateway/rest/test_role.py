"""Claims reach the database as they are, whatever they hold."""

import json

import jwt
import pytest

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.gateway.rest.transaction.role import RoleResolver
from amphibase.gateway.rest.transaction.role_claim import RolePath

SECRET = "a secret that is long enough to sign tokens with HS256"


@pytest.mark.parametrize(
    "value",
    ["123456789012345678901234567890", r'"\ud800"', "[" * 400 + "]" * 400],
    ids=["a large number", "half a character", "deep lists"],
)
def test_a_claim_may_hold_any_json(value: str) -> None:
    key = Key.from_secret(SECRET)
    token = jwt.api_jws.encode(f'{{"role":"anon","more":{value}}}'.encode(), SECRET, "HS256")
    identities = RoleResolver(KeyRing([key]), None, None, ".role")
    claims = identities.resolve(token).claims
    assert json.loads(claims) == {"role": "anon", "more": json.loads(value)}
    claims.encode()


def test_a_role_that_no_text_can_hold_is_none_that_there_is() -> None:
    key = Key.from_secret(SECRET)
    token = jwt.api_jws.encode(rb'{"role":"\ud800"}', SECRET, "HS256")
    identities = RoleResolver(KeyRing([key]), None, None, ".role")
    assert identities.resolve(token).name == "?"


@pytest.mark.parametrize(
    "path",
    [
        ".roles[1]",
        "$.roles[1]",
        "$['roles'][-1]",
        '$["roles"][1]',
        '$.roles[?@ == "cook"]',
        "$.roles[?@ != 'guest']",
    ],
)
def test_a_role_is_found_by_either_syntax_of_paths(path: str) -> None:
    assert RolePath(path).find({"roles": ["guest", "cook"]}) == "cook"


@pytest.mark.parametrize("path", ["$", "$role", "role", "$.roles[?@ > 1]", "$..role"])
def test_what_is_no_path_is_rejected(path: str) -> None:
    with pytest.raises(ValueError, match="must be a path"):
        RolePath(path)
