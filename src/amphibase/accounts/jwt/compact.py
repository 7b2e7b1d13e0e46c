"""JSON Web Signatures in their compact form (RFC 7515, section 7.1), and those of a shared secret.

HS256 (RFC 7518, section 3.2) is one call of the standard library. It stands here so that API keys
and the tokens of a shared secret need no library of asymmetric keys, which would be a tenth of a
gateway's memory and of its start.
"""

import base64
import hmac
import json
from calendar import timegm
from collections.abc import Mapping
from datetime import datetime
from typing import Any

HS256 = "HS256"


def encode_part(content: bytes) -> str:
    """Return a part of a token: base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decode_part(part: str) -> bytes:
    """Return the content of a part.

    Raises:
        ValueError: it is no base64url, or not as `encode_part` writes its content: one signature
            has one form (RFC 4648, section 3.5).
    """
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if encode_part(content) != part:
        raise ValueError("is not base64url")
    return content


def sign_with_secret(claims: Mapping[str, Any], secret: bytes, kid: str | None) -> str:
    """Return a token that a shared secret signs.

    Args:
        secret: its bytes.
        kid: the id of the key, for the header; None leaves it out.
    """
    header = {"alg": HS256, **({"kid": kid} if kid else {}), "typ": "JWT"}
    signed = ".".join(encode_part(_json(part)) for part in (header, dict(claims)))
    return f"{signed}.{encode_part(_signature(signed, secret))}"


def payload_of_secret(token: str, secret: bytes) -> bytes:
    """Return the payload of a token that a shared secret signed.

    Raises:
        ValueError: it is not signed by it, or has extensions that have to be understood (`crit`;
            RFC 7515, section 4.1.11).
    """
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    if not hmac.compare_digest(_signature(signed, secret), decode_part(signature)):
        raise ValueError("is not signed by this secret")
    if "crit" in json.loads(decode_part(header)):
        raise ValueError("has extensions that are not supported")
    return decode_part(payload)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=_numeric_date).encode()


def _numeric_date(value: object) -> int:
    """Return a time as claims have it: in seconds since 1970 (RFC 7519, section 2)."""
    if isinstance(value, datetime):
        return timegm(value.utctimetuple())
    raise TypeError(f"A claim of the type {type(value).__name__} has no form in JSON")


def _signature(signed: str, secret: bytes) -> bytes:
    return hmac.digest(secret, signed.encode(), "sha256")
