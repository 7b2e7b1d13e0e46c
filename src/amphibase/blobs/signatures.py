"""Signatures of URLs that open one file until they expire."""

import base64
import binascii
import hmac
import json
import struct
from datetime import UTC, datetime
from uuid import UUID

from amphibase.backend import Caller
from amphibase.backend.caller import Role
from amphibase.column_defaults import utc_now
from amphibase.errors import InvalidSignature

ROLES: tuple[Role, ...] = ("anon", "authenticated", "service_role")
NOBODY = UUID(int=0)
"""Stands for the user where the signer is none."""

_SIGNED = struct.Struct(">QB16s32s")
"""When it expires, the role and the user who signed, and the digest. A multiple of three bytes: the
last letter of its Base64 has no bits to spare, which could be changed unseen."""


class Signatures:
    """Signs bucket, path, expiry and signer together.

    Args:
        secret: 32 bytes, from `KeyRing.derive("signed url")`.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, caller: Caller, bucket: str, path: str, expires_at: datetime) -> str:
        """Return the caller's signature for the file, good until that time (whole seconds)."""
        who = ROLES.index(caller.role), (caller.user_id or NOBODY).bytes
        expires = int(expires_at.timestamp())
        digest = self._digest(bucket, path, expires, *who)
        return base64.urlsafe_b64encode(_SIGNED.pack(expires, *who, digest)).decode()

    def signer(self, bucket: str, path: str, signature: str) -> Caller:
        """Return who signed. Raises InvalidSignature unless it is this file's and has not
        expired."""
        try:
            signed = base64.b64decode(signature.encode("ascii"), b"-_", validate=True)
            expires, role, user, digest = _SIGNED.unpack(signed)
        except (UnicodeEncodeError, binascii.Error, struct.error):
            raise InvalidSignature from None
        if not hmac.compare_digest(digest, self._digest(bucket, path, expires, role, user)):
            raise InvalidSignature
        if datetime.fromtimestamp(expires, UTC) <= utc_now():
            raise InvalidSignature("This link has expired")
        user_id = UUID(bytes=user)
        return Caller(ROLES[role], None if user_id == NOBODY else user_id)

    def _digest(self, bucket: str, path: str, expires: int, role: int, user: bytes) -> bytes:
        message = json.dumps([bucket, path, expires, role, user.hex()]).encode()
        return hmac.digest(self._secret, message, "sha256")
