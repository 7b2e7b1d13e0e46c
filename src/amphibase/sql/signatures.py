"""Signatures of URLs that open one file until they expire."""

import base64
import binascii
import hmac
import json
from datetime import UTC, datetime

from amphibase.errors import InvalidSignature
from amphibase.models import utc_now

TIME_BYTES = 8


class Signatures:
    """Signs bucket, path and expiry together.

    Args:
        secret: 32 bytes, from `KeyRing.derive("signed url")`.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, bucket: str, path: str, expires_at: datetime) -> str:
        """A signature for the file, good until that time (whole seconds)."""
        expires = int(expires_at.timestamp()).to_bytes(TIME_BYTES)
        signed = expires + self._digest(bucket, path, expires)
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()

    def check(self, bucket: str, path: str, signature: str) -> None:
        """Raises InvalidSignature unless it is this file's and has not expired."""
        try:
            signed = base64.b64decode(
                signature.encode("ascii") + b"=" * (-len(signature) % 4), b"-_", validate=True
            )
        except (UnicodeEncodeError, binascii.Error):
            raise InvalidSignature from None
        expires, digest = signed[:TIME_BYTES], signed[TIME_BYTES:]
        if not hmac.compare_digest(digest, self._digest(bucket, path, expires)):
            raise InvalidSignature
        if datetime.fromtimestamp(int.from_bytes(expires), UTC) <= utc_now():
            raise InvalidSignature("This link has expired")

    def _digest(self, bucket: str, path: str, expires: bytes) -> bytes:
        message = json.dumps([bucket, path]).encode() + expires
        return hmac.digest(self._secret, message, "sha256")
