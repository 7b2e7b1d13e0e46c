"""Secrets that everybody has: the defaults of Supabase's tools and the examples of tutorials.

They are right where only this machine can reach what they guard, and open it to everybody where
others can. What they are is compared, and not under which name they are configured.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CLI_JWT_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
CLI_PUBLISHABLE_KEY = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
CLI_SECRET_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
CLI_S3_ACCESS_KEY_ID = "625729a08b95bf1b7ff351a663f3a23c"
CLI_S3_SECRET_ACCESS_KEY = "850181e4652dd023b7a98c58ae0d2d34bd487ee0cc3254aed6eda37307425907"
"""What the Supabase CLI gives every project on every machine."""

_JWT_SECRETS = (
    CLI_JWT_SECRET,
    # Of the file .env.example that Supabase's compose file comes with.
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    "my-super-secret-jwt-token-with-at-least-32-characters-long",
)

_SECRETS = frozenset(
    {
        *_JWT_SECRETS,
        CLI_PUBLISHABLE_KEY,
        CLI_SECRET_KEY,
        CLI_S3_SECRET_ACCESS_KEY,
        "UpNVntn3cDxHJpq99YMc1T1AQgQpc8kfYTuRgBiYa15BLrx8etQoXz3gZv1/u2oq",  # .env.example
        "your-encryption-key-32-chars-min",  # .env.example
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",  # FastAPI's tutorial
        "a secret that is long enough to sign tokens with HS256",  # our own documentation
    }
)

_PASSWORDS = frozenset(
    {
        "postgres",  # the CLI's
        "your-super-secret-and-long-postgres-password",  # .env.example
        "mysecretpassword",  # of the documentation of Postgres's image
        "changethis",  # of FastAPI's full-stack template
        "password",
        "example",
    }
)

_EC_KEYS = frozenset({"M5Sjqn5zwC9Kl1zVfUUGvv9boQjCGd45G8sdopBExB4"})
"""The coordinate x of the key that the CLI's projects sign users' tokens by; its private half is
published with it."""


def is_published(value: str) -> bool:
    """Return whether a secret or an API key is one that everybody has, or can sign themselves."""
    value = value.strip()
    return value in _SECRETS or _is_signed_by_published_secret(value)


def _is_signed_by_published_secret(token: str) -> bool:
    signed, separator, signature = token.rpartition(".")
    if not separator:
        return False
    return any(
        hmac.compare_digest(signature.encode(), sign(signed, secret).encode())
        for secret in _JWT_SECRETS
    )


def sign(text: str, secret: str) -> str:
    """Return the signature of a token by HS256 (RFC 7515), as the token holds it."""
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_published_jwk(jwk: Mapping[str, Any]) -> bool:
    """Return whether everybody has the private half of a key (RFC 7517), or a shared secret."""
    if jwk.get("kty") == "oct":
        try:
            return is_published(base64.urlsafe_b64decode(f"{jwk.get('k')}==").decode())
        except ValueError:
            return False
    return jwk.get("x") in _EC_KEYS


def has_published_password(url: str) -> bool:
    """Return whether the password of a database URL is one that everybody tries first."""
    try:
        parts = urlsplit(url)
        passwords = [unquote(parts.password or ""), *parse_qs(parts.query).get("password", [])]
    except ValueError:
        return False
    return not _PASSWORDS.isdisjoint(passwords)
