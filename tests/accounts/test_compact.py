"""Tokens of a shared secret: as PyJWT writes them and reads them."""

import base64
import json
import string
from datetime import datetime, timedelta, timezone

import jwt
import pytest

from amphibase.accounts.jwt.compact import (
    decode_part,
    encode_part,
    payload_of_secret,
    sign_with_secret,
)

SECRET = b"a secret that only these tests sign their tokens with"
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
CLAIMS = {"sub": "änn", "exp": 2**33, "app_metadata": {"roles": ["a"]}}


@pytest.mark.parametrize("kid", [None, "first"])
def test_pyjwt_reads_what_a_secret_signs(kid: str | None) -> None:
    token = sign_with_secret(CLAIMS, SECRET, kid)
    assert jwt.decode(token, SECRET, ["HS256"]) == CLAIMS
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "HS256", "typ": "JWT", **({"kid": kid} if kid else {})}


def test_a_time_is_written_as_pyjwt_writes_it() -> None:
    time = datetime(2030, 1, 1, 2, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=2)))
    token = sign_with_secret({"nbf": time}, SECRET, None)
    assert json.loads(payload_of_secret(token, SECRET)) == {"nbf": 1893456000}
    assert token.split(".")[1] == jwt.encode({"nbf": time}, SECRET, "HS256").split(".")[1]
    with pytest.raises(TypeError, match="of the type set"):
        sign_with_secret({"roles": {"admin"}}, SECRET, None)


def test_what_pyjwt_signs_has_its_payload() -> None:
    token = jwt.api_jws.encode(b"any content", SECRET, "HS256")
    assert payload_of_secret(token, SECRET) == b"any content"


def changed(token: str, part: int, place: int) -> str:
    """The token with another character at that place of a part."""
    parts = token.split(".")
    text = parts[part]
    other = "A" if text[place] != "A" else "B"
    parts[part] = text[:place] + other + text[place + 1 :]
    return ".".join(parts)


def respelled(part: str) -> str:
    """The same bytes in base64, with another of the bits that hold none of them."""
    last = ALPHABET.index(part[-1])
    other = part[:-1] + ALPHABET[last ^ 1]
    assert base64.urlsafe_b64decode(other + "=") == base64.urlsafe_b64decode(part + "=")
    return other


TOKEN = sign_with_secret(CLAIMS, SECRET, None)
SIGNED, _, SIGNATURE = TOKEN.rpartition(".")


@pytest.mark.parametrize(
    "token",
    [
        changed(TOKEN, 0, 3),
        changed(TOKEN, 1, 3),
        changed(TOKEN, 2, 0),
        f"{SIGNED}.",
        f"{SIGNED}.{SIGNATURE[:-1]}",
        f"{SIGNED}.{SIGNATURE}=",
        f"{SIGNED}.{SIGNATURE} ",
        f"{SIGNED}.{respelled(SIGNATURE)}",
        f"{SIGNED}.{encode_part(bytes(32))}",
        sign_with_secret(CLAIMS, SECRET + b"!", None),
        jwt.api_jws.encode(b"x", SECRET, "HS256", headers={"crit": ["b64"], "b64": True}),
    ],
)
def test_what_the_secret_did_not_sign_has_none(token: str) -> None:
    with pytest.raises(ValueError, match=r"is not|has extensions|padding"):
        payload_of_secret(token, SECRET)


@pytest.mark.parametrize("content", [b"", b"a", b"ab", b"abc", bytes(range(256))])
def test_a_part_holds_any_bytes(content: bytes) -> None:
    part = encode_part(content)
    assert set(part).isdisjoint("+/=")
    assert decode_part(part) == content


@pytest.mark.parametrize("part", ["a+b/", "YQ==", "YQ ", "Y", "YQ\n", "ä", "YR"])
def test_what_is_no_base64url_is_no_part(part: str) -> None:
    with pytest.raises(ValueError, match=r"base64url|character|padding|ASCII"):
        decode_part(part)
