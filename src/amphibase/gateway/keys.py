"""The API keys of a project, which clients send as `apikey`, and the tokens they stand for."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amphibase.settings.published_secrets import (
    CLI_JWT_SECRET,
    CLI_S3_ACCESS_KEY_ID,
    CLI_S3_SECRET_ACCESS_KEY,
    sign,
)

ISSUER = "supabase-demo"
EXPIRES = 1983812996
"""Of the CLI's API keys: in November 2032."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys of one project.

    Attributes:
        secret: signs `anon` and `service_role`.
        anon, service_role: JSON Web Tokens.
        publishable, secret_key: opaque keys that stand for them, if any.
    """

    secret: str = field(repr=False)
    anon: str = field(repr=False)
    service_role: str = field(repr=False)
    publishable: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)

    def token_for(self, opaque: str) -> str | None:
        """Return the token that an opaque key stands for; None for a key of another project."""
        encoded = opaque.encode("utf-8", "surrogatepass")
        match = None
        for key, token in ((self.publishable, self.anon), (self.secret_key, self.service_role)):
            if key is not None and hmac.compare_digest(encoded, key.encode()):
                match = token
        return match


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """An access key of Storage's S3 protocol that acts as the service, and what users sign with.

    Attributes:
        access_key_id: who signs.
        secret: what they sign with.
        session_secret: what a client signs with that sends a user's token beside the signature,
            under any access key: the project's anonymous key.
    """

    access_key_id: str
    secret: str = field(repr=False)
    session_secret: str = field(repr=False)


def s3_credentials(keys: ApiKeys) -> S3Credentials:
    """Return the access key of a project that has not set its own.

    It is made from the JWT secret, from which it cannot be told, nor the other way around; the
    CLI's JWT secret has the CLI's.
    """
    if keys.secret == CLI_JWT_SECRET:
        return S3Credentials(CLI_S3_ACCESS_KEY_ID, CLI_S3_SECRET_ACCESS_KEY, keys.anon)

    def derived(purpose: str) -> str:
        return hmac.digest(keys.secret.encode(), purpose.encode(), hashlib.sha256).hex()

    key_id = derived("S3 access key id")[:32]
    return S3Credentials(key_id, derived("S3 secret access key"), keys.anon)


def api_key(secret: str, role: str) -> str:
    """Issue the token of a role as the Supabase CLI does, byte for byte."""
    header = {"alg": "HS256", "typ": "JWT"}
    claims = {"iss": ISSUER, "role": role, "exp": EXPIRES}
    signed = ".".join(_base64(json.dumps(part, separators=(",", ":"))) for part in (header, claims))
    return f"{signed}.{sign(signed, secret)}"


def claims_of(token: str) -> Mapping[str, Any]:
    """Return the claims of an API key without verifying it; none of what is no token."""
    parts = token.split(".")
    try:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in parts[:2]
        )
    except ValueError:
        return {}
    is_token = len(parts) == 3 and isinstance(header, dict) and isinstance(claims, dict)
    return claims if is_token else {}


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
