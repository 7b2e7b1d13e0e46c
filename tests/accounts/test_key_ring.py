"""The key ring: rotation, files, derived secrets."""

import json
import stat
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from amphibase import ConfigurationError, InvalidToken, load_settings
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_file import parse_jwks, read_key_file, write_key_file
from amphibase.accounts.jwt.key_ring import KeyRing, load_keys

CLI_SIGNING_KEY = {
    "kty": "EC",
    "kid": "b81269f1-21d8-4f2e-b719-c2240a840d90",
    "crv": "P-256",
    "x": "M5Sjqn5zwC9Kl1zVfUUGvv9boQjCGd45G8sdopBExB4",
    "y": "P6IXMvA2WYXSHSOMTBH2jsw_9rrzGy89FjPf6oOsIxQ",
    "d": "dIhR8wywJlqlua4y_yMq2SLhlFXDZJBCvFrY1DCHyVU",
}
"""Published in the source of the CLI."""


def claims(**changes: Any) -> dict[str, Any]:
    return {"sub": str(uuid4()), "aud": "authenticated", "exp": int(time.time()) + 60} | changes


def test_what_one_key_signs_every_ring_that_holds_it_verifies() -> None:
    old, new = Key.generate(), Key.generate()
    token = KeyRing([old]).issue(claims(response=42))
    assert KeyRing([new, old]).verify(token)["response"] == 42
    with pytest.raises(InvalidToken):
        KeyRing([new]).verify(token)


def test_development_makes_a_key_that_only_the_owner_can_read(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "data")
    first, second = load_keys(settings), load_keys(settings)
    assert second.verify(first.issue(claims()))
    path = tmp_path / "data" / "keys.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["keys.json"]


def test_a_key_file_goes_before_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_key_file(path, [Key.generate()])
    ring = load_keys(load_settings(jwt_key_file=path, secret_key="s" * 64))
    assert len(ring.jwks()["keys"]) == 1


def test_public_keys_hold_nothing_private() -> None:
    (published,) = KeyRing([Key.generate(), Key.from_secret("s" * 64)]).jwks()["keys"]
    assert published.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops"}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("hidden", "is not a JSON Web Key Set"),
        ("[]", "is not a JSON Web Key Set"),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [{"kty": "oct", "k": "hidden"}]}', "no EC key"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "x": "hidden", "y": "a"}]}', "no EC key"),
    ],
)
def test_a_key_file_that_holds_no_key_is_one_readable_line(
    tmp_path: Path, content: str, fault: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        read_key_file(path)
    assert fault in caught.value.detail
    assert str(path) in caught.value.detail
    assert "hidden" not in caught.value.detail


def test_a_public_key_alone_cannot_sign(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(str(KeyRing([Key.generate()]).jwks()).replace("'", '"'))
    with pytest.raises(ConfigurationError, match="must hold private keys"):
        read_key_file(path)


def test_production_rejects_the_key_that_the_supabase_cli_gives_every_project(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [Key.generate().private_jwk(), CLI_SIGNING_KEY]}))
    load_keys(load_settings(jwt_key_file=path))
    with pytest.raises(ConfigurationError, match="which everybody has"):
        load_keys(load_settings(jwt_key_file=path, environment="production"))


def test_a_missing_key_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load_keys(load_settings(jwt_key_file=tmp_path / "none.json"))


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"alg": "RSA-OAEP"},
        {"alg": "none"},
        {"kty": "new"},
        {"crv": "new", "alg": None},
        {"kty": "OKP", "crv": "X25519", "alg": None},
        {"x": "short"},
        {"kty": ["EC"]},
    ],
)
def test_keys_of_others_that_verify_no_token_are_skipped(changes: dict[str, Any]) -> None:
    signs, other = Key.generate(), {**Key.generate().public_jwk(), **changes}
    for jwk in (other, None, "key"):
        assert [key.kid for key in parse_jwks({"keys": [jwk, signs.public_jwk()]})] == [signs.kid]
    assert parse_jwks({"keys": [other]}) == []


def test_derived_secrets_differ_by_purpose_and_by_key() -> None:
    one, two = KeyRing([Key.generate()]), KeyRing([Key.generate()])
    assert one.derive("a") == one.derive("a")
    assert len({one.derive("a"), one.derive("b"), two.derive("a")}) == 3


@pytest.mark.parametrize("key", [Key.generate(), Key.from_secret("s" * 64)], ids=["pair", "secret"])
def test_derived_secrets_are_those_of_hkdf(key: Key) -> None:
    hkdf = HKDF(hashes.SHA256(), length=32, salt=None, info=b"amphibase a")
    assert key.derive("a") == hkdf.derive(key.material())
