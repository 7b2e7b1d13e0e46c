"""The check of a token: by the keys, and by the clock each time."""

import json
from typing import Any

import jwt
import pytest
from jwt.utils import base64url_encode

from amphibase import InvalidToken
from amphibase.accounts.jwt import verifier
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.jwt.verifier import TokenFault, TokenRejected

SECRET = "a secret that only these tests sign their tokens with"
NOW = 1_800_000_000
EC = Key.generate()
SHARED = Key.from_secret(SECRET)


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(verifier, "time", clock)
    return clock


def signed(key: Key = SHARED, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token of a key, which PyJWT itself would not always sign."""
    header = {"alg": key.algorithm, "typ": "JWT", **({"kid": key.kid} if key.kid else {})}
    payload = json.dumps({"sub": "ann", "exp": NOW + 60, **claims}).encode()
    return jwt.api_jws.encode(payload, key.signing, key.algorithm, headers=header | (headers or {}))


def raw(*parts: bytes) -> str:
    return ".".join(base64url_encode(part).decode() for part in parts)


HEADER = json.dumps({"alg": "HS256"}).encode()


@pytest.mark.parametrize(
    ("token", "fault"),
    [
        ("", TokenFault.PARTS),
        ("a.b", TokenFault.PARTS),
        ("a.b.c.d", TokenFault.PARTS),
        ("a.b.c", TokenFault.MALFORMED),
        ("\u00e4.\u00e4.\u00e4", TokenFault.MALFORMED),
        (raw(b"[]", b"{}", b"x"), TokenFault.MALFORMED),
        (raw(b"[" * 5000, b"{}", b"x"), TokenFault.MALFORMED),
        (raw(HEADER, b"x" * 65_536, b"x"), TokenFault.MALFORMED),
        (raw(json.dumps({"alg": "none"}).encode(), b"{}", b""), TokenFault.ALGORITHM),
        (jwt.encode({"exp": NOW + 60}, SECRET * 2, "HS512"), TokenFault.ALGORITHM),
        (signed(EC, {"kid": "another"}), TokenFault.KEY),
        (raw(b'{"alg": "HS256", "kid": ["list"]}', b"{}", b"x"), TokenFault.KEY),
        (signed(Key.from_secret("another secret, which is long enough too")), TokenFault.SIGNATURE),
        (signed(Key.generate(), {"kid": EC.kid}), TokenFault.SIGNATURE),
        (jwt.encode({}, str(EC.public_jwk()), "HS256", headers={"kid": EC.kid}), TokenFault.KEY),
        (jwt.api_jws.encode(b"7", SECRET, "HS256"), TokenFault.CLAIMS),
        (jwt.api_jws.encode(b"[" * 5000, SECRET, "HS256"), TokenFault.CLAIMS),
        (signed(exp="soon"), TokenFault.CLAIMS),
        (signed(exp=True), TokenFault.CLAIMS),
        (signed(aud=7), TokenFault.CLAIMS),
        (signed(aud=["x", 7]), TokenFault.CLAIMS),
        (signed(exp=NOW - 30), TokenFault.EXPIRED),
        (signed(exp=float("nan")), TokenFault.CLAIMS),
        (signed(exp=10**400), TokenFault.CLAIMS),
        (jwt.api_jws.encode(b'{"exp": -1e999}', SECRET, "HS256"), TokenFault.CLAIMS),
        (signed(nbf=NOW + 31), TokenFault.NOT_YET_VALID),
        (signed(iat=NOW + 31), TokenFault.ISSUED_IN_FUTURE),
        (signed(aud="others"), TokenFault.AUDIENCE),
        (signed(aud=["others"]), TokenFault.AUDIENCE),
        (signed(sub=None), TokenFault.MISSING_CLAIM),
        (signed(sub=""), TokenFault.MISSING_CLAIM),
    ],
)
def test_a_token_that_is_not_valid_is_rejected_with_the_reason(
    token: str, fault: TokenFault
) -> None:
    ring = KeyRing([EC, SHARED])
    if fault is TokenFault.KEY:
        ring = KeyRing([EC, Key.from_secret(SECRET, "shared")])
    for _ in range(2):  # the second time from the cache, as far as it is in it
        with pytest.raises(TokenRejected) as caught:
            ring.verify(token, audience="ours", required=("sub",))
        assert caught.value.fault is fault
        assert isinstance(caught.value, InvalidToken)
        assert caught.value.reason not in caught.value.detail


@pytest.mark.parametrize(
    "token",
    [
        signed(),
        signed(EC),
        signed(exp=NOW - 29),
        signed(exp=None),
        signed(exp=1e300),
        signed(nbf=NOW + 29, iat=NOW + 29),
        signed(aud="ours"),
        signed(aud=["others", "ours"]),
        signed(aud=[]),
        signed(data="x" * 40_000),
    ],
)
def test_a_token_that_is_valid_has_its_claims(token: str) -> None:
    ring = KeyRing([EC, SHARED])
    assert ring.verify(token, audience="ours", required=("sub",))["sub"] == "ann"


@pytest.mark.parametrize(("leeway", "lives"), [(0, 60), (30, 90)])
def test_a_verified_token_is_rejected_once_it_has_expired(
    clock: Clock, leeway: int, lives: int
) -> None:
    ring = KeyRing([SHARED])
    token = signed()
    first = ring.verify(token, leeway=leeway)
    clock.now = NOW + lives - 0.1
    assert ring.verify(token, leeway=leeway) is first
    clock.now = NOW + lives
    for _ in range(2):
        with pytest.raises(TokenRejected, match="has expired"):
            ring.verify(token, leeway=leeway)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature is checked meanwhile."""
    checked: list[str] = []
    payload = Key.payload

    def counted(key: Key, token: str) -> bytes:
        checked.append(token)
        return payload(key, token)

    monkeypatch.setattr(Key, "payload", counted)
    return checked


def test_a_signature_is_checked_once_unless_the_token_is_long(checked: list[str]) -> None:
    ring, token, long = KeyRing([SHARED]), signed(), signed(data="x" * 9000)
    for _ in range(3):
        ring.verify(token)
        ring.verify(long)
    assert (checked.count(token), checked.count(long)) == (1, 3)


def test_the_oldest_token_leaves_the_cache_when_it_is_full(
    monkeypatch: pytest.MonkeyPatch, checked: list[str]
) -> None:
    monkeypatch.setattr(verifier, "MAX_CACHED", 2)
    ring = KeyRing([SHARED])
    tokens = [signed(number=number) for number in range(3)]
    for token in (*tokens, tokens[2], tokens[1], tokens[0]):
        ring.verify(token)
    assert [checked.count(token) for token in tokens] == [2, 1, 1]


def test_claims_cannot_be_changed_in_the_cache() -> None:
    ring, token = KeyRing([SHARED]), signed()
    with pytest.raises(TypeError):
        ring.verify(token)["sub"] = "bob"  # type: ignore[index]


def test_a_token_of_a_derived_ring_is_of_use_for_its_purpose_only() -> None:
    ring = KeyRing([SHARED])
    token = ring.derived("one").issue({"sub": "ann"})
    assert ring.derived("one").verify(token)["sub"] == "ann"
    for other in (ring, ring.derived("two")):
        with pytest.raises(TokenRejected):
            other.verify(token)
