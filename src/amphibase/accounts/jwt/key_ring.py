"""The key ring: issues and verifies JSON Web Tokens, publishes the public keys, derives secrets.

The first key signs, all verify, and each key pins its algorithm: what a token's header says of
its algorithm is never believed (RFC 8725, section 3.1).
"""

import base64
import hashlib
import json
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import ECAlgorithm

from amphibase.backend import Claims
from amphibase.errors import ConfigurationError, InvalidToken
from amphibase.models import utc_now
from amphibase.published_secrets import is_published_jwk
from amphibase.settings import Settings, load_settings

AUDIENCE = "authenticated"
KEY_FILE = "keys.json"
MAX_TOKEN_BYTES = 8192
VERIFIED_TOKENS = 10_000
"""How many verified tokens are remembered; a signature is checked once, expiry every time."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key with the only algorithm it is used for: `HS256` or `ES256`."""

    algorithm: str
    signing: Any
    verifying: Any
    kid: str | None

    @classmethod
    def from_secret(cls, secret: str) -> "Key":
        """A shared secret, for HS256."""
        return cls("HS256", secret.encode(), secret.encode(), None)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> "Key":
        """A private P-256 key in JWK form (RFC 7517). Raises ValueError."""
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
        """A new P-256 key, for ES256; its id is its thumbprint (RFC 7638)."""
        private = ec.generate_private_key(ec.SECP256R1())
        return cls("ES256", private, private.public_key(), _thumbprint(private.public_key()))

    def private_jwk(self) -> dict[str, Any]:
        """The key for a key file; only of ES256 keys."""
        return {**_jwk(self.signing), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def public_jwk(self) -> dict[str, Any]:
        """The key for everybody; only of ES256 keys."""
        return {**_jwk(self.verifying), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def derive(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose (HKDF, RFC 5869)."""
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


class KeyRing:
    """The keys of one installation.

    Args:
        keys: at least one; the first signs.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        self._verified: OrderedDict[str, tuple[float, Claims]] = OrderedDict()

    def issue(self, claims: Mapping[str, Any]) -> str:
        """Sign the claims with the first key."""
        key = self._keys[0]
        headers = {"kid": key.kid} if key.kid else None
        return jwt.encode(dict(claims), key.signing, algorithm=key.algorithm, headers=headers)

    def verify(self, token: str) -> Claims:
        """The claims of a token that one of the keys signed, that is meant for us and has not
        expired.

        Raises:
            InvalidToken: anything else.
        """
        now = utc_now().timestamp()
        remembered = self._verified.get(token)
        if remembered is None:
            claims = self._check(token)
            remembered = (float(claims["exp"]), claims)
            self._verified[token] = remembered
            if len(self._verified) > VERIFIED_TOKENS:
                self._verified.popitem(last=False)
        expires, claims = remembered
        if expires <= now:
            self._verified.pop(token, None)
            raise InvalidToken("The access token has expired")
        return claims

    def _check(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            raise InvalidToken from None
        candidates = [key for key in self._keys if kid is None or key.kid in (None, kid)]
        for key in candidates:
            try:
                claims = jwt.decode(
                    token,
                    key.verifying,
                    algorithms=[key.algorithm],
                    audience=AUDIENCE,
                    options={"require": ["exp", "sub", "aud"]},
                )
            except jwt.ExpiredSignatureError:
                raise InvalidToken("The access token has expired") from None
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                continue
            return MappingProxyType(claims)
        raise InvalidToken

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set; shared secrets are never in it."""
        return {"keys": [key.public_jwk() for key in self._keys if key.algorithm == "ES256"]}

    def derive(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose, from the first key."""
        return self._keys[0].derive(purpose)


def load_keys(settings: Settings) -> KeyRing:
    """The key ring that the settings name; in development a key is made in DATA_DIR (mode 0600).

    Raises:
        ConfigurationError: the key file cannot be read, holds no usable key, or in production a
            published one.
    """
    if settings.jwt_key_file:
        keys = read_key_file(settings.jwt_key_file)
        if settings.environment == "production" and any(
            is_published_jwk(key.public_jwk()) for key in keys
        ):
            raise ConfigurationError(
                "JWT_KEY_FILE: holds a key of the Supabase CLI, which everybody has; production "
                "needs its own (amphibase keys generate)"
            )
        return KeyRing(keys)
    if settings.secret_key:
        return KeyRing([Key.from_secret(settings.secret_key.get_secret_value())])
    path = settings.data_dir / KEY_FILE
    if not path.exists():
        write_key_file(path, [Key.generate()], overwrite=False)
    return KeyRing(read_key_file(path))


def read_key_file(path: Path) -> list[Key]:
    """The keys of a file: a JWK set, or one JWK.

    Raises:
        ConfigurationError: says what is wrong with the file, and nothing of its content.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        keys = content.get("keys", [content])
        found = [Key.from_jwk(jwk) for jwk in keys]
        if not found:
            raise ValueError("holds no key")
    except OSError as error:
        raise ConfigurationError(f"The key file {path} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(
            f"The key file {path} is not a JSON Web Key Set; `amphibase keys generate` makes one"
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"The key file {path} {error}") from None
    return found


def write_key_file(path: Path, keys: Iterable[Key], *, overwrite: bool = True) -> None:
    """Write the keys so that only the owner may read them, all or nothing.

    Args:
        overwrite: False leaves a file that exists (another process was first) as it is.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    text = json.dumps({"keys": [key.private_jwk() for key in keys]}, indent=2) + "\n"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"The key file {path} cannot be written: {error.strerror}"
        ) from None


def _jwk(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(key, as_dict=True)


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    jwk = _jwk(key)
    text = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def create_access_token(
    claims: Mapping[str, Any],
    expires_in: timedelta | None = None,
    *,
    settings: Settings | None = None,
) -> str:
    """An access token for routes and sign-in flows of one's own.

    It belongs to no session: it is good until it expires, unless the user is banned or deleted.

    Args:
        claims: `sub`, the user's id, and whatever else; audience, role and times are filled in.
        expires_in: how long it is good; ACCESS_TOKEN_MINUTES where not given.
        settings: read from the environment and `.env` where not given.
    """
    settings = settings or load_settings()
    now = utc_now()
    expires = now + (expires_in or settings.access_token_lifetime)
    defaults = {"aud": AUDIENCE, "role": "authenticated", "iat": int(now.timestamp())}
    return load_keys(settings).issue({**defaults, **claims, "exp": int(expires.timestamp())})
