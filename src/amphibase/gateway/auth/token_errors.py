"""Why a bearer's token is rejected, in the words of the library that Supabase Auth verifies tokens
with (https://github.com/golang-jwt/jwt), which its messages end with."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from types import MappingProxyType

from amphibase.accounts.jwt.verifier import TokenFault, TokenRejected
from amphibase.gateway.auth.go_json import syntax_error

_METHODS = re.compile(r"(?:HS|RS|ES|PS)(?:256|384|512)|EdDSA|none")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9_-]")

_PARTS = "token is malformed: token contains an invalid number of segments"

_SIGNATURES: Mapping[str, str] = MappingProxyType(
    {
        "H": "signature is invalid",
        "R": "crypto/rsa: verification error",
        "P": "crypto/rsa: verification error",
        "E": "crypto/ecdsa: verification error",
    }
)
"""What is said of a wrong signature, by the first letter of its algorithm."""


def reason(token: str, rejected: TokenRejected) -> str:
    """Return why a token was rejected."""
    match rejected.fault:
        case TokenFault.PARTS:
            return _PARTS
        case TokenFault.EXPIRED:
            return "token has invalid claims: token is expired"
        case TokenFault.NOT_YET_VALID:
            return "token has invalid claims: token is not valid yet"
        case TokenFault.CLAIMS:
            return f"token is malformed: could not JSON decode claim: {rejected.reason}"
        case TokenFault.MALFORMED | TokenFault.ALGORITHM | TokenFault.KEY | TokenFault.SIGNATURE:
            return _of_parts(token.split("."), rejected.fault)
    return rejected.reason


def _of_parts(parts: list[str], fault: TokenFault) -> str:
    if len(parts) != 3:  # of a token that is too long
        return _PARTS
    for name, part in zip(("header", "claim"), parts, strict=False):
        if reason := base64_error(part):
            return f"token is malformed: could not base64 decode {name}: {reason}"
        if reason := syntax_error(_decoded(part)):
            return f"token is malformed: could not JSON decode {name}: {reason}"
    try:
        # Go takes bytes that are not UTF-8, and numbers of any length.
        header = json.loads(_decoded(parts[0]).decode(errors="replace"), parse_int=float)
    except RecursionError:
        return "token is malformed: could not JSON decode header: exceeded max depth"
    algorithm = header.get("alg") if isinstance(header, dict) else None
    if not isinstance(algorithm, str):
        return "token is unverifiable: signing method (alg) is unspecified"
    if not _METHODS.fullmatch(algorithm):
        return "token is unverifiable: signing method (alg) is unavailable"
    if fault is TokenFault.ALGORITHM:
        return f"token signature is invalid: signing method {algorithm} is invalid"
    if fault is TokenFault.KEY:
        kid = str(header.get("kid")).encode(errors="replace").decode()
        return f"token is unverifiable: error while executing keyfunc: invalid kid: {kid}"
    if reason := base64_error(parts[2]):
        return f"token is malformed: could not base64 decode signature: {reason}"
    is_edwards = algorithm == "EdDSA"
    how = "ed25519: verification error" if is_edwards else _SIGNATURES.get(algorithm[0], "")
    return f"token signature is invalid: {how}"


def base64_error(text: str) -> str | None:
    """Return what Go says of a text that is not base64 without padding, in the alphabet of URLs."""
    if stray := _NOT_BASE64.search(text):
        return f"illegal base64 data at input byte {stray.start()}"
    if len(text) % 4 == 1:
        return f"illegal base64 data at input byte {len(text) - 1}"
    return None


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
