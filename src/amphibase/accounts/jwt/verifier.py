"""The check of a JSON Web Token: whether one of the keys signed it, and whether it is valid now.

What a token's header says of its algorithm is never believed: each key pins its own (RFC 8725,
section 3.1), and signatures are compared in constant time. A signature is checked once, the times
every time.
"""

import json
import sys
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from time import time
from types import MappingProxyType
from typing import Any

from amphibase.accounts.jwt.compact import decode_part
from amphibase.accounts.jwt.key import Key
from amphibase.backend import Claims
from amphibase.errors import InvalidToken

MAX_CACHED = 10_000
"""How many verified tokens are cached."""

MAX_CACHED_BYTES = 8 * 1024
"""Longer ones are verified each time, so that few cannot take the memory of many."""

MAX_TOKEN_BYTES = 64 * 1024
"""A user's metadata is part of their token, and Supabase sets it no bound."""

CLOCK_SKEW = 30
"""Seconds by which the clocks of issuer and verifier may differ, as PostgREST has it."""


class TokenFault(StrEnum):
    """Why a token is rejected."""

    PARTS = "it has not three parts separated by dots"
    MALFORMED = "its parts are not JSON in base64"
    ALGORITHM = "its algorithm is not that of a key"
    KEY = "no key has the id that it names"
    SIGNATURE = "its signature is not of a key"
    CLAIMS = "its claims are not a JSON object, or a claim has the wrong type"
    MISSING_CLAIM = "a claim is missing"
    EXPIRED = "it has expired"
    NOT_YET_VALID = "it is not valid yet"
    ISSUED_IN_FUTURE = "it was issued in the future"
    AUDIENCE = "it is meant for another audience"


class TokenRejected(InvalidToken):
    """A token that is not valid.

    Attributes:
        fault: why; the services differ in what they reveal of it to clients.
        reason: the same for people.
        expired: when it did, in seconds since 1970, if that is why.
    """

    def __init__(self, fault: TokenFault, reason: str = "", expired: float | None = None) -> None:
        self.fault = fault
        self.reason = reason or fault.value
        self.expired = expired
        if fault is TokenFault.EXPIRED:
            super().__init__("The access token has expired")
        else:
            super().__init__()


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: Claims
    expires: float
    begins: float
    issued: float


class TokenVerifier:
    """Verifies the tokens that any of several keys signed.

    Args:
        keys: with what they verify.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    def verify(
        self,
        token: str,
        *,
        audience: str | None = None,
        required: Collection[str] = (),
        leeway: int = CLOCK_SKEW,
        checks_issued_at: bool = True,
    ) -> Claims:
        """Return the claims of a token that one of the keys signed and that is valid now.

        Args:
            audience: a token that names audiences has to name this one.
            required: claims that it has to have.
            leeway: seconds for which it is still valid after its expiry.
            checks_issued_at: whether a token that was issued in the future is rejected.

        Returns:
            The same object each time, for as long as the token is cached.

        Raises:
            TokenRejected: any other token.
        """
        verified = self._verified.get(token)
        if verified is None:
            verified = self._check(token)
            if len(token) <= MAX_CACHED_BYTES:
                self._verified[token] = verified
            if len(self._verified) > MAX_CACHED:
                self._verified.popitem(last=False)
        now = time()
        if not now < verified.expires + leeway:
            self._verified.pop(token, None)
            raise TokenRejected(TokenFault.EXPIRED, expired=verified.expires)
        if now < verified.begins - CLOCK_SKEW:
            raise TokenRejected(TokenFault.NOT_YET_VALID)
        if checks_issued_at and now < verified.issued - CLOCK_SKEW:
            raise TokenRejected(TokenFault.ISSUED_IN_FUTURE)
        claims = verified.claims
        for name in required:
            if not claims.get(name):
                raise TokenRejected(TokenFault.MISSING_CLAIM, f"the claim '{name}' is missing")
        if audience is not None and not _is_meant_for(audience, claims.get("aud")):
            raise TokenRejected(TokenFault.AUDIENCE)
        return claims

    def _check(self, token: str) -> _Verified:
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRejected(TokenFault.MALFORMED)
        header = _header(token)
        kid, algorithm = header.get("kid"), header.get("alg")
        keys = [key for key in self._keys if key.algorithm == algorithm]
        if not keys:
            raise TokenRejected(TokenFault.ALGORITHM)
        keys = [key for key in keys if kid is None or key.kid in (None, kid)]
        if not keys:
            raise TokenRejected(TokenFault.KEY)
        for key in keys:
            try:
                payload = key.payload(token)
            except (ValueError, RecursionError):
                continue
            return _read_claims(payload)
        raise TokenRejected(TokenFault.SIGNATURE)


def _header(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRejected(TokenFault.PARTS, f"Expected 3 parts in JWT; got {len(parts)}")
    try:
        header = json.loads(decode_part(parts[0]))
    except (ValueError, RecursionError):
        raise TokenRejected(TokenFault.MALFORMED) from None
    if not isinstance(header, dict):
        raise TokenRejected(TokenFault.MALFORMED)
    return header


def _read_claims(payload: bytes) -> _Verified:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRejected(TokenFault.CLAIMS, "Parsing claims failed")
    times = {"exp": float("inf"), "nbf": float("-inf"), "iat": float("-inf")}
    for name in times:
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_time(value):
            raise TokenRejected(TokenFault.CLAIMS, f"The JWT '{name}' claim must be a number")
        times[name] = value
    audience = claims.get("aud")
    if not (
        audience is None
        or isinstance(audience, str)
        or (isinstance(audience, list) and all(isinstance(each, str) for each in audience))
    ):
        raise TokenRejected(
            TokenFault.CLAIMS, "The JWT 'aud' claim must be a string or an array of strings"
        )
    return _Verified(MappingProxyType(claims), times["exp"], times["nbf"], times["iat"])


def _is_time(seconds: float) -> bool:
    """Whether a number is finite: Python reads NaN in JSON, and numbers that are too large."""
    return abs(seconds) <= sys.float_info.max


def _is_meant_for(audience: str, named: str | list[str] | None) -> bool:
    if not named:
        return True
    return named == audience or (isinstance(named, list) and audience in named)
