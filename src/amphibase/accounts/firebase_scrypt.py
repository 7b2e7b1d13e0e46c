"""Password hashes of Firebase: scrypt as a key, and with it AES over the project's signer key.

In Supabase's notation `$fbscrypt$v=1,n=14,r=8,p=1,ss=<separator>,sk=<signer key>$<salt>$<hash>`,
where n is the power of two.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(
    r"\$fbscrypt\$v=1,n=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})"
    r"(?:,ss=([A-Za-z0-9+/=]+))?,sk=([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)"
)
KEY_BYTES = 32
MAX_MEMORY = 128 << 20
"""Firebase's own parameters take 16 MiB; what was brought in must not cost a gigabyte."""


@dataclass(frozen=True, slots=True)
class FirebaseScrypt:
    """One hash, taken apart."""

    n: int
    r: int
    p: int
    salt: bytes
    signer_key: bytes
    hashed: bytes

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Take a hash apart; None where it is none, or would cost too much to check."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        power, r, p = (int(number) for number in match.groups()[:3])
        if not (1 <= power <= 20 and r >= 1 and 1 <= p <= 16 and 128 * r << power <= MAX_MEMORY):
            return None
        try:
            separator, signer_key, salt, hashed = (
                base64.b64decode(part or "", validate=True) for part in match.groups()[3:]
            )
        except binascii.Error:
            return None
        return cls(1 << power, r, p, salt + separator, signer_key, hashed)

    def matches(self, secret: bytes) -> bool:
        """Return whether the password is this one; blocks for as long as scrypt takes."""
        key = hashlib.scrypt(
            secret,
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            dklen=KEY_BYTES,
            maxmem=2 * MAX_MEMORY,
        )
        from cryptography.hazmat.primitives.ciphers import (  # few passwords are Firebase's
            Cipher,
            algorithms,
            modes,
        )

        counter = modes.CTR(bytes(16))
        encryptor = Cipher(algorithms.AES(key), counter).encryptor()
        return hmac.compare_digest(encryptor.update(self.signer_key), self.hashed)
