"""Page cursors: opaque, signed, and good only for the query that gave them out."""

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from amphibase.errors import InvalidCursor, InvalidRequest

SIGNATURE_BYTES = 16
MAX_CURSOR_CHARACTERS = 4096


class Cursors:
    """Writes and reads cursors.

    Args:
        secret: 32 bytes, from `KeyRing.derive("cursor")`.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, query: str, position: list[Any]) -> str:
        """Return a cursor for the position (JSON values) in the list that `query` names.

        Raises:
            InvalidRequest: it would be too long to be read again.
        """
        content = json.dumps(position, separators=(",", ":"), ensure_ascii=False).encode()
        cursor = base64.urlsafe_b64encode(self._sign(query, content) + content).rstrip(b"=")
        if len(cursor) > MAX_CURSOR_CHARACTERS:
            raise InvalidRequest(
                "The list goes on after values that are too long to remember; order it by others"
            )
        return cursor.decode()

    def read(self, query: str, cursor: str) -> list[Any]:
        """Return the position that `write` put into the cursor for the same query.

        Raises:
            InvalidCursor: tampered with, or of another query.
        """
        if len(cursor) > MAX_CURSOR_CHARACTERS:
            raise InvalidCursor
        try:
            data = base64.b64decode(
                cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True
            )
        except (UnicodeEncodeError, binascii.Error):
            raise InvalidCursor from None
        signature, content = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(query, content)):
            raise InvalidCursor
        position: list[Any] = json.loads(content)
        return position

    def _sign(self, query: str, content: bytes) -> bytes:
        message = hashlib.sha256(query.encode()).digest() + content
        return hmac.digest(self._secret, message, "sha256")[:SIGNATURE_BYTES]
