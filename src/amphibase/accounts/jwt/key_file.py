"""Files and texts of keys: JSON Web Key Sets (RFC 7517), of one's own and of others."""

import base64
import json
import os
import secrets
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from amphibase.accounts.jwt.key import ES256, Key, KeyPair
from amphibase.errors import ConfigurationError
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.accounts")

KEY_FILE = "keys.json"
"""The name of the file in DATA_DIR."""

ROOT_FILE = "root.key"
"""The name of a project's file with the secret that others are derived from."""

ROOT_BYTES = 32


def read_key_file(path: Path) -> list[Key]:
    """Read the private keys of a file: a JWK set, or one JWK.

    Raises:
        ConfigurationError: says what is wrong with the file, and nothing of its content.
    """
    return [_parsed(path, jwk) for jwk in _read_file(path)]


def read_key_file_later(path: Path) -> list[Key]:
    """Return the keys of a file as `read_key_file` does, each of them read when it is first needed;
    where there is no file yet, it is made then, with a new key.

    Raises:
        ConfigurationError: the file is not a set of keys, or holds one of another kind.
    """
    if not path.exists():
        return [Key(ES256, partial(_make_file, path))]
    jwks = _read_file(path)
    if not all(_looks_private(jwk) for jwk in jwks):  # said at the start, not at a sign-in
        raise ConfigurationError(f"The key file {path} must hold private keys of the curve P-256")
    return [Key(ES256, partial(_pair, path, jwk)) for jwk in jwks]


def _looks_private(jwk: Any) -> bool:
    return isinstance(jwk, dict) and (jwk.get("kty"), jwk.get("crv"), "d" in jwk) == (
        "EC",
        "P-256",
        True,
    )


def _make_file(path: Path) -> KeyPair:
    write_key_file(path, [Key.generate()], overwrite=False)
    return read_key_file(path)[0].pair


def _pair(path: Path, jwk: Any) -> KeyPair:
    return _parsed(path, jwk).pair


def _parsed(path: Path, jwk: Any) -> Key:
    try:
        return Key.from_jwk(jwk)
    except (TypeError, AttributeError):
        raise _no_key_set(path) from None
    except ValueError as error:
        raise ConfigurationError(f"The key file {path} {error}") from None


def _read_file(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        jwks = list(content.get("keys", [content]))
    except OSError as error:
        raise ConfigurationError(f"The key file {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError):
        raise _no_key_set(path) from None
    if not jwks:
        raise ConfigurationError(f"The key file {path} holds no key")
    return jwks


def _no_key_set(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"The key file {path} is not a JSON Web Key Set; `amphibase keys generate` makes one"
    )


def write_key_file(path: Path, keys: Iterable[Key], *, overwrite: bool = True) -> None:
    """Write the keys so that only the owner may read them, all or nothing.

    Args:
        overwrite: False leaves a file that exists (another process was first) as it is.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    text = json.dumps({"keys": [key.private_jwk() for key in keys]}, indent=2) + "\n"
    _write_private(path, text, overwrite=overwrite)


def read_root_file(path: Path, key_file: Path) -> Key:
    """Return the secret that others are derived from, which is made where there is none yet.

    It is the material of the first key of the key file where that is there already, so that what
    was derived of it before stays what it was.

    Raises:
        ConfigurationError: the file holds no secret, or cannot be read or written.
    """
    if not path.exists():
        made = read_key_file(key_file)[0].material() if key_file.exists() else None
        secret = made or secrets.token_bytes(ROOT_BYTES)
        _write_private(path, base64.b64encode(secret).decode() + "\n", overwrite=False)
    try:
        secret = base64.b64decode(path.read_text("ascii").strip(), validate=True)
    except OSError as error:
        raise ConfigurationError(f"The key file {path} cannot be read: {error.strerror}") from None
    except ValueError:
        secret = b""
    if len(secret) < ROOT_BYTES:
        raise ConfigurationError(f"The key file {path} does not hold a secret in base64")
    return Key.from_secret(secret)


def _write_private(path: Path, text: str, *, overwrite: bool) -> None:
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


def read_jwks(text: str) -> list[Key]:
    """Read the keys of others from a set or one JWK, as PostgREST does; they verify, and sign
    nothing.

    Raises:
        ConfigurationError: the text is neither, or holds no key that is supported; nothing of it
            is repeated.
    """
    try:
        keys = parse_jwks(json.loads(text))
    except ValueError:
        keys = []
    if not keys:
        raise ConfigurationError(
            "JWT_JWKS: is not a JSON Web Key Set of keys that tokens are signed by"
        )
    return keys


def parse_jwks(content: Any) -> list[Key]:
    """Return the verifying keys of a parsed set, or of one JWK.

    Keys for encryption and of unknown kinds are skipped, since issuers publish them in the same set
    (RFC 7517, section 5).

    Raises:
        ValueError: the content is not a set.
    """
    jwks = content.get("keys", [content]) if isinstance(content, dict) else None
    if not isinstance(jwks, list):
        raise ValueError("is not a JSON Web Key Set")
    verifying = [_key(jwk) for jwk in jwks if _verifies(jwk)]
    keys = [key for key in verifying if key is not None]
    if keys and len(keys) < len(verifying):
        logger.warning("A key of a key set is of a kind that is not supported")
    return keys


def _verifies(jwk: Any) -> bool:
    """Return whether a JWK is for signatures (RFC 7517, sections 4.2 and 4.3)."""
    if not isinstance(jwk, dict):
        return False
    operations = jwk.get("key_ops")
    return jwk.get("use", "sig") == "sig" and (
        not isinstance(operations, list) or "verify" in operations
    )


def _key(jwk: dict[str, Any]) -> Key | None:
    import jwt

    try:
        key = jwt.PyJWK(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    public = key.key.public_key() if hasattr(key.key, "public_key") else key.key
    return Key.of(key.algorithm_name, None, public, key.key_id)
