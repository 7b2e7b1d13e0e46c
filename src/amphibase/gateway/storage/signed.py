"""Tokens in URLs: each opens one path for reading, or for one upload, until it expires.

They are JSON Web Tokens as Supabase's are, signed by a key of their own: none of them signs anybody
in, and nobody's access token opens a path.
"""

import time
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from amphibase.accounts.jwt.key_ring import MAX_TOKEN_BYTES
from amphibase.accounts.jwt.verifier import Tokens
from amphibase.gateway.storage.errors import StorageError
from amphibase.gateway.storage.identity import ALGORITHM, EXPIRED, FORGED, INVALID, MALFORMED

Use = Literal["download", "upload"]


@dataclass(frozen=True, slots=True)
class Signed:
    """What a token says.

    Attributes:
        url: bucket and path.
        owner: whose an uploaded file is to be.
        overwrite: whether an upload may replace a file.
        expires: in seconds since 1970.
    """

    url: str
    expires: int
    owner: str | None = None
    overwrite: bool = False


class SignedUrls:
    """Issues and verifies the tokens of one project."""

    def __init__(self, tokens: Tokens) -> None:
        self._secret = tokens.derive("storage signed url")

    def download(self, url: str, seconds: int) -> str:
        """A token for reading."""
        return self._sign(seconds, {"url": url, "scope": "download"})

    def upload(self, url: str, seconds: int, *, owner: str | None, overwrite: bool) -> str:
        """A token for an upload."""
        claims: dict[str, Any] = {"url": url, "scope": "upload", "upsert": overwrite}
        return self._sign(seconds, claims if owner is None else {**claims, "owner": owner})

    def verify(self, token: str, use: Use, url: str | None) -> Signed:
        """What the token says. Raises StorageError unless it is good now, for this use and path.

        Args:
            url: bucket and path; None where whoever asks looks at what the token says.
        """
        try:
            if len(token) > MAX_TOKEN_BYTES:
                raise jwt.DecodeError
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], options={"require": ["exp", "url"]}
            )
        except jwt.ExpiredSignatureError:
            raise _refused(EXPIRED) from None
        except jwt.InvalidSignatureError:
            raise _refused(FORGED) from None
        except jwt.InvalidAlgorithmError:
            raise _refused(ALGORITHM) from None
        except jwt.MissingRequiredClaimError:
            raise _refused(INVALID) from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused(MALFORMED) from None
        signed_url = str(claims["url"])
        if url not in (None, signed_url) or claims.get("scope") != use:
            raise StorageError(400, "InvalidSignature", "Invalid signature")
        return Signed(signed_url, claims["exp"], claims.get("owner"), bool(claims.get("upsert")))

    def _sign(self, seconds: int, claims: dict[str, Any]) -> str:
        now = int(time.time())
        return jwt.encode({**claims, "iat": now, "exp": now + seconds}, self._secret, "HS256")


def _refused(message: str) -> StorageError:
    return StorageError(400, "InvalidJWT", message)
