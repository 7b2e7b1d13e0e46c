"""A key that signs or verifies JSON Web Tokens, with the one algorithm that it is used for."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from amphibase.accounts.jwt.compact import (
    HS256,
    encode_part,
    payload_of_secret,
    sign_with_secret,
)

if TYPE_CHECKING:  # not loaded until an asymmetric key is used
    from cryptography.hazmat.primitives.asymmetric import ec

ES256 = "ES256"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What a key signs and verifies with: keys of `cryptography`, or the bytes of a secret twice.

    Args:
        signing: None of a public key.
        verifying: the same as `signing` of a shared secret.
        kid: the id of the key, if it has one.
    """

    signing: Any = field(repr=False)
    verifying: Any = field(repr=False)
    kid: str | None


class Key:
    """One key with the only algorithm it is used for, such as `HS256` or `ES256`.

    Args:
        algorithm: by its name in RFC 7518.
        load: reads or makes what it signs and verifies with, when that is first needed.
    """

    def __init__(self, algorithm: str, load: Callable[[], KeyPair]) -> None:
        self.algorithm = algorithm
        self._load = load

    @classmethod
    def of(cls, algorithm: str, signing: Any, verifying: Any, kid: str | None) -> "Key":
        """Make a key of what it signs and verifies with."""
        pair = KeyPair(signing, verifying, kid)
        return cls(algorithm, lambda: pair)

    @classmethod
    def from_secret(cls, secret: str | bytes, kid: str | None = None) -> "Key":
        """Make a key of a shared secret, for HS256."""
        raw = secret.encode() if isinstance(secret, str) else secret
        return cls.of(HS256, raw, raw, kid)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> "Key":
        """Read a private P-256 key in JWK form (RFC 7517). Raises ValueError."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from jwt import InvalidKeyError
        from jwt.algorithms import ECAlgorithm

        try:
            private = ECAlgorithm.from_jwk(dict(jwk))
        except (InvalidKeyError, ValueError, TypeError, KeyError) as error:
            raise ValueError("holds a key that is no EC key") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise ValueError("must hold private keys of the curve P-256")
        kid = str(jwk.get("kid") or _thumbprint(private.public_key()))
        return cls.of(ES256, private, private.public_key(), kid)

    @classmethod
    def generate(cls) -> "Key":
        """Generate a P-256 key, for ES256; its id is its thumbprint (RFC 7638)."""
        from cryptography.hazmat.primitives.asymmetric import ec

        private = ec.generate_private_key(ec.SECP256R1())
        return cls.of(ES256, private, private.public_key(), _thumbprint(private.public_key()))

    @cached_property
    def pair(self) -> KeyPair:
        """What it signs and verifies with, loaded once."""
        return self._load()

    @property
    def signing(self) -> Any:
        """The half that signs; None of a public key."""
        return self.pair.signing

    @property
    def verifying(self) -> Any:
        """The half that verifies."""
        return self.pair.verifying

    @property
    def kid(self) -> str | None:
        """The id that tokens name it by, if it has one."""
        return self.pair.kid

    @property
    def is_secret(self) -> bool:
        """Whether who verifies could sign: there is no public half."""
        return isinstance(self.verifying, bytes)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token of these claims."""
        if self.algorithm == HS256:
            return sign_with_secret(claims, self.signing, self.kid)
        import jwt

        headers = {"kid": self.kid} if self.kid else None
        return jwt.encode(dict(claims), self.signing, algorithm=self.algorithm, headers=headers)

    def payload(self, token: str) -> bytes:
        """Return the payload of a token that this key signed. Raises ValueError otherwise."""
        if self.algorithm == HS256:
            return payload_of_secret(token, self.verifying)
        import jwt

        try:
            payload: bytes = jwt.api_jws.decode(token, self.verifying, algorithms=[self.algorithm])
        except (jwt.PyJWTError, TypeError) as error:
            raise ValueError("is not signed by this key") from error
        return payload

    def private_jwk(self) -> dict[str, Any]:
        """Write the key for a key file; only of ES256 keys."""
        return {**_jwk(self.signing), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def public_jwk(self) -> dict[str, Any]:
        """Write the key's public half; none of a shared secret."""
        import jwt

        public = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.verifying, as_dict=True)
        named = {"kid": self.kid, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]}
        return {**public, **named}

    def derive(self, purpose: str) -> bytes:
        """Derive a secret of 32 bytes for one purpose.

        By HKDF with SHA-256 and no salt (RFC 5869), of which 32 bytes are the first block.
        """
        extracted = hmac.digest(bytes(32), self.material(), "sha256")
        return hmac.digest(extracted, f"amphibase {purpose}".encode() + b"\x01", "sha256")

    def material(self) -> bytes:
        """Return what secrets are derived from: the secret itself, or the private half."""
        if isinstance(self.signing, bytes):
            return self.signing
        from cryptography.hazmat.primitives import serialization

        return bytes(
            self.signing.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _jwk(key: "ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey") -> dict[str, Any]:
    from jwt.algorithms import ECAlgorithm

    return ECAlgorithm.to_jwk(key, as_dict=True)


def _thumbprint(key: "ec.EllipticCurvePublicKey") -> str:
    jwk = _jwk(key)
    text = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    return encode_part(hashlib.sha256(text.encode()).digest())
