"""Files and texts of keys: JSON Web Key Sets (RFC 7517), of one's own and of others."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jwt

from amphibase.accounts.jwt.key import Key
from amphibase.errors import ConfigurationError
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.accounts")

KEY_FILE = "keys.json"
"""The name of the file in DATA_DIR."""


def read_key_file(path: Path) -> list[Key]:
    """Read the private keys of a file: a JWK set, or one JWK.

    Raises:
        ConfigurationError: says what is wrong with the file, and nothing of its content.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        keys = content.get("keys", [content])
        parsed = [Key.from_jwk(jwk) for jwk in keys]
        if not parsed:
            raise ValueError("holds no key")
    except OSError as error:
        raise ConfigurationError(f"The key file {path} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(
            f"The key file {path} is not a JSON Web Key Set; `amphibase keys generate` makes one"
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"The key file {path} {error}") from None
    return parsed


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
    try:
        key = jwt.PyJWK(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    public = key.key.public_key() if hasattr(key.key, "public_key") else key.key
    return Key(key.algorithm_name, None, public, key.key_id)
