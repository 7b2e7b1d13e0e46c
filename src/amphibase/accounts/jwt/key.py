"""A key that signs or verifies JSON Web Tokens, with the one algorithm that it is used for."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import ECAlgorithm


@dataclass(frozen=True, slots=True)
class Key:
    """One key with the only algorithm it is used for, such as `HS256` or `ES256`."""

    algorithm: str
    signing: Any
    verifying: Any
    kid: str | None

    @classmethod
    def from_secret(cls, secret: str | bytes) -> "Key":
        """Make a key of a shared secret, for HS256."""
        raw = secret.encode() if isinstance(secret, str) else secret
        return cls("HS256", raw, raw, None)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> "Key":
        """Read a private P-256 key in JWK form (RFC 7517). Raises ValueError."""
        try:
            private = ECAlgorithm.from_jwk(dict(jwk))
        except (jwt.InvalidKeyError, ValueError, TypeError, KeyError) as error:
            raise ValueError("holds a key that is no EC key") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise ValueError("must hold private keys of the curve P-256")
        kid = str(jwk.get("kid") or _thumbprint(private.public_key()))
        return cls("ES256", private, private.public_key(), kid)

    @classmethod
    def generate(cls) -> "Key":
        """Generate a P-256 key, for ES256; its id is its thumbprint (RFC 7638)."""
        private = ec.generate_private_key(ec.SECP256R1())
        return cls("ES256", private, private.public_key(), _thumbprint(private.public_key()))

    @property
    def is_secret(self) -> bool:
        """Whether who verifies could sign: there is no public half."""
        return isinstance(self.verifying, bytes)

    def private_jwk(self) -> dict[str, Any]:
        """Write the key for a key file; only of ES256 keys."""
        return {**_jwk(self.signing), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def public_jwk(self) -> dict[str, Any]:
        """Write the key's public half; none of a shared secret."""
        public = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.verifying, as_dict=True)
        named = {"kid": self.kid, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]}
        return {**public, **named}

    def derive(self, purpose: str) -> bytes:
        """Derive a secret of 32 bytes for one purpose (HKDF, RFC 5869)."""
        hkdf = HKDF(hashes.SHA256(), length=32, salt=None, info=f"amphibase {purpose}".encode())
        return hkdf.derive(self._material())

    def _material(self) -> bytes:
        if isinstance(self.signing, bytes):
            return self.signing
        return bytes(
            self.signing.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _jwk(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(key, as_dict=True)


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    jwk = _jwk(key)
    text = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
