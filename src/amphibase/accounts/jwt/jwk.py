"""Keys of somebody else, whose tokens are taken: a JSON Web Key Set, as PostgREST reads one."""

import json
from typing import Any

import jwt

from amphibase.accounts.jwt.key_ring import Key
from amphibase.errors import ConfigurationError


def read_keys(text: str) -> list[Key]:
    """The keys of a set (RFC 7517) or of one JWK; they verify, and sign nothing.

    Raises:
        ConfigurationError: it is none; nothing of it is repeated.
    """
    try:
        content = json.loads(text)
        return [_key(jwk) for jwk in content.get("keys", [content])]
    except (ValueError, TypeError, AttributeError, jwt.PyJWTError):
        raise ConfigurationError(
            "JWT_JWKS: is not a JSON Web Key Set of keys that tokens are signed by"
        ) from None


def _key(jwk: dict[str, Any]) -> Key:
    key = jwt.PyJWK(jwk)
    public = key.key.public_key() if hasattr(key.key, "public_key") else key.key
    return Key(key.algorithm_name, None, public, key.key_id)
