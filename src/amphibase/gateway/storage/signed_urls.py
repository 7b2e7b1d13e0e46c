"""Tokens of signed URLs: each opens one path for reading or uploading, until it expires.

They are JSON Web Tokens as Supabase's are, signed by a key of their own: none of them is an access
token, and no access token opens a path.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.jwt.verifier import TokenRejected
from amphibase.gateway.storage.caller import FAULT_MESSAGES, INVALID
from amphibase.gateway.storage.errors import InvalidUrlSignature, InvalidUrlToken

Use = Literal["download", "upload", "image"]


@dataclass(frozen=True, slots=True)
class SignedUrlClaims:
    """The claims of a token.

    Attributes:
        url: bucket and path.
        owner: of the object that is uploaded.
        overwrite: whether an upload may replace an object.
        expires: in seconds since 1970.
        transformation: of an image, as it was signed.
    """

    url: str
    expires: int
    owner: str | None = None
    overwrite: bool = False
    transformation: dict[str, Any] | None = None


class SignedUrls:
    """Issues and verifies the tokens of one project."""

    def __init__(self, tokens: KeyRing) -> None:
        self._keys = tokens.derived("storage signed url")

    def download(self, url: str, seconds: int) -> str:
        """Issue a token for reading."""
        return self._sign(seconds, {"url": url, "scope": "download"})

    def image(self, url: str, seconds: int, transformation: dict[str, Any]) -> str:
        """Issue a token for reading an image in that form, and no other."""
        claims = {"url": url, "scope": "image", "transformation": transformation}
        return self._sign(seconds, claims)

    def upload(self, url: str, seconds: int, *, owner: str | None, overwrite: bool) -> str:
        """Issue a token for an upload."""
        claims: dict[str, Any] = {"url": url, "scope": "upload", "upsert": overwrite}
        return self._sign(seconds, claims if owner is None else {**claims, "owner": owner})

    def verify(self, token: str, use: Use, url: str | None) -> SignedUrlClaims:
        """Return the claims of a token that is valid now.

        Args:
            url: bucket and path that it has to be of; None where the caller compares them.

        Raises:
            InvalidUrlToken: it is malformed, forged or expired.
            InvalidUrlSignature: it is of another URL, or for another use.
        """
        try:
            claims = self._keys.verify(token, required=("exp", "url"), leeway=0)
        except TokenRejected as rejected:
            raise InvalidUrlToken(FAULT_MESSAGES.get(rejected.fault, INVALID)) from None
        signed_url = str(claims["url"])
        if claims.get("scope") != use:
            scope = "upload" if use == "upload" else "download"
            raise InvalidUrlSignature(f"Token is not scoped for {scope}")
        if url not in (None, signed_url):
            raise InvalidUrlSignature
        return SignedUrlClaims(
            signed_url,
            claims["exp"],
            claims.get("owner"),
            bool(claims.get("upsert")),
            claims.get("transformation"),
        )

    def _sign(self, seconds: int, claims: dict[str, Any]) -> str:
        now = int(time.time())
        return self._keys.issue({**claims, "iat": now, "exp": now + seconds})
