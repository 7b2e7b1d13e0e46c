"""Names of objects in Supabase Storage, which takes few characters beside those of ASCII's words.

A path with other characters is stored with each of their bytes written as in quoted-printable
(RFC 2045, section 6.7): `ä b.txt` as `=C3=A4 b.txt`. Names that Storage takes stay as they are, and
those that other clients gave are read as the same paths again.
"""

import re
import string

SAFE = frozenset((string.ascii_letters + string.digits + "_/!-.*'() &$@=;:+,?").encode())
"""The bytes that a name may have
(https://supabase.com/docs/guides/storage/uploads/file-limitations)."""

_CODES = {byte: f"={byte:02X}".encode() for byte in range(256) if byte not in SAFE or byte == 0x3D}
_BYTES = {code: bytes([byte]) for byte, code in _CODES.items()}
_CODED = re.compile(b"|".join(map(re.escape, _BYTES)))
# An equals sign is itself, unless what follows it would make it a code.
_TO_CODE = re.compile(
    rb"=(?=" + rb"|".join(re.escape(code[1:]) for code in _BYTES) + rb")"
    rb"|[^" + re.escape(bytes(SAFE)) + rb"]"
)


def key_of(path: str) -> str:
    """Return the name under which Storage has a path."""
    encoded = path.encode(errors="surrogatepass")
    return _TO_CODE.sub(lambda match: _CODES[match[0][0]], encoded).decode("ascii")


def path_of(key: str) -> str:
    """Return the path that a name stands for."""
    decoded = _CODED.sub(lambda match: _BYTES[match[0]], key.encode(errors="surrogatepass"))
    return decoded.decode(errors="surrogateescape")
