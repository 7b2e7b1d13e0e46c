"""The keys of `GOTRUE_JWT_KEYS`: one signs users' tokens, the others verify those it did not sign.

A key goes through three states, and no user is signed out meanwhile: on standby (`key_ops` is
`["verify"]`), so that everybody has its public half before it signs; in use (`["sign", "verify"]`);
previously used (`["verify"]` again), until the last token that it signed has expired
(https://supabase.com/docs/guides/auth/signing-keys).
"""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from amphibase.accounts.jwt.key import Key

ALGORITHMS = ("RS256", "RS512", "ES256", "ES512", "EdDSA", "HS256")
"""Those that Supabase Auth signs with."""

MIN_RSA_BITS = 2048
MIN_SECRET_BYTES = 32

_CURVES = {"secp256r1": "ES256", "secp521r1": "ES512"}


def read_signing_keys(text: str) -> list[Key]:
    """Read a JSON array of JSON Web Keys (RFC 7517), as Supabase Auth has it.

    Returns:
        The keys; the first is the one that signs.

    Raises:
        ValueError: says what is wrong, and nothing of the keys.
    """
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise ValueError('must be a JSON array of JSON Web Keys, such as [{"kty":"EC", …}]')
    keys = [
        (_key(jwk, number), "sign" in _operations(jwk)) for number, jwk in enumerate(content, 1)
    ]
    signing = [key for key, signs in keys if signs]
    if len(signing) != 1:
        raise ValueError(
            f'must have one key with "sign" in its key_ops, which signs, and has {len(signing)}'
        )
    if len({key.kid for key, _ in keys}) < len(keys):
        raise ValueError("must have a kid of its own for each key")
    if signing[0].signing is None:
        raise ValueError("must have the private half of the key that signs")
    return signing + [key for key, signs in keys if not signs]


def _operations(jwk: dict[str, Any]) -> list[Any]:
    operations = jwk.get("key_ops")
    return operations if isinstance(operations, list) else []


def _key(jwk: dict[str, Any], number: int) -> Key:
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ValueError(f"has no kid in key {number}")
    try:
        parsed = jwt.PyJWK(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        parsed = None
    if parsed is None or not _is_of_algorithm(parsed.key, parsed.algorithm_name):
        raise ValueError(f"has no key of {', '.join(ALGORITHMS)} in key {number}")
    value, algorithm = parsed.key, parsed.algorithm_name
    if isinstance(value, bytes):
        if len(value) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes in key {number}")
        return Key.of(algorithm, value, value, kid)
    if algorithm.startswith("RS") and value.key_size < MIN_RSA_BITS:
        raise ValueError(f"must have at least {MIN_RSA_BITS} bits in key {number}")
    if hasattr(value, "public_key"):
        return Key.of(algorithm, value, value.public_key(), kid)
    return Key.of(algorithm, None, value, kid)


def _is_of_algorithm(key: Any, algorithm: str) -> bool:
    """Whether the library would use a key only as its algorithm is defined (RFC 7518, RFC 8037)."""
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name) == algorithm
    if algorithm == "EdDSA":
        return isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey)
    return algorithm in ("RS256", "RS512", "HS256")
