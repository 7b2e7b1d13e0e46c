"""The API keys of a project, which clients send as `apikey`, and the tokens they stand for."""

import base64
import hmac
import json
from dataclasses import dataclass, field

from amphibase.published_secrets import sign

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


def api_key(secret: str, role: str) -> str:
    """Issue the token of a role as the Supabase CLI does, byte for byte."""
    header = {"alg": "HS256", "typ": "JWT"}
    claims = {"iss": ISSUER, "role": role, "exp": EXPIRES}
    signed = ".".join(_base64(json.dumps(part, separators=(",", ":"))) for part in (header, claims))
    return f"{signed}.{sign(signed, secret)}"


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
