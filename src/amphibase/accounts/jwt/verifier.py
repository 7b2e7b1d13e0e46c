"""The tokens of a project: its API keys and its users' access tokens, issued and verified.

API keys are signed by the shared secret, users' tokens by the first key of the ring; every service
takes both. What a token's header says of its algorithm is never believed: each key pins its own
(RFC 8725, section 3.1).
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from time import time
from types import MappingProxyType
from typing import Any

import jwt
from jwt.utils import base64url_decode

from amphibase.accounts.jwt.key_ring import Key
from amphibase.backend import Claims

VERIFIED_TOKENS = 10_000
"""How many verified tokens are remembered; a signature is checked once, the times every time."""

MAX_TOKEN_BYTES = 64 * 1024
"""A user's metadata is part of their token, and Supabase sets it no bound."""

MAX_REMEMBERED_BYTES = 8 * 1024
"""Longer ones are verified each time, so that few cannot take the memory of many."""

CLOCK_SKEW = 30
"""Seconds by which the clocks of issuer and verifier may differ, as PostgREST has it."""


class Fault(StrEnum):
    """Why a token is refused."""

    MALFORMED = "it is not three parts of base64 separated by dots"
    ALGORITHM = "its algorithm is none that a key of the project has"
    KEY = "no key of the project has the id it names"
    SIGNATURE = "its signature does not fit"
    CLAIMS = "its claims are no JSON object, or a claim has the wrong type"
    EXPIRED = "it has expired"
    NOT_YET_VALID = "it is not valid yet"
    ISSUED_IN_FUTURE = "it was issued in the future"
    AUDIENCE = "it is meant for somebody else"


class TokenRefused(Exception):
    """A token that does not hold, and why."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        self.fault = fault
        self.detail = detail or fault.value
        super().__init__(self.detail)


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: Claims
    expires: float
    begins: float
    issued: float


class Tokens:
    """Issues and verifies the tokens of one project.

    Args:
        signing: signs users' tokens.
        shared: the shared secret, which signs API keys; None where the project has none.
        others: keys that verify only.
    """

    def __init__(self, signing: Key, shared: Key | None = None, others: Iterable[Key] = ()) -> None:
        self._signing = signing
        self._shared = shared
        distinct = {id(key): key for key in (signing, *others, *([shared] if shared else []))}
        self._keys = tuple(distinct.values())
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    def issue(self, claims: Mapping[str, Any]) -> str:
        """A user's token."""
        headers = {"kid": self._signing.kid} if self._signing.kid else None
        signing = self._signing
        return jwt.encode(
            dict(claims), signing.signing, algorithm=signing.algorithm, headers=headers
        )

    def derive(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose, from the key that signs; what an application with
        that key derives is the same."""
        return self._signing.derive(purpose)

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set (RFC 7517); shared secrets are never in it."""
        return {"keys": [key.public_jwk() for key in self._keys if key.algorithm == "ES256"]}

    def verify(self, token: str, *, audience: str | None = None) -> Claims:
        """The claims of a token that one of the keys signed and that is good now.

        Args:
            audience: a token that names audiences has to name this one.

        Raises:
            TokenRefused: any other token.
        """
        known = self._verified.get(token)
        if known is None:
            known = self._check(token)
            if len(token) <= MAX_REMEMBERED_BYTES:
                self._verified[token] = known
            if len(self._verified) > VERIFIED_TOKENS:
                self._verified.popitem(last=False)
        now = time()
        if now > known.expires + CLOCK_SKEW:
            self._verified.pop(token, None)
            raise TokenRefused(Fault.EXPIRED)
        if now < known.begins - CLOCK_SKEW:
            raise TokenRefused(Fault.NOT_YET_VALID)
        if now < known.issued - CLOCK_SKEW:
            raise TokenRefused(Fault.ISSUED_IN_FUTURE)
        if audience is not None and not _is_meant_for(audience, known.claims.get("aud")):
            raise TokenRefused(Fault.AUDIENCE)
        return known.claims

    def _check(self, token: str) -> _Verified:
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused(Fault.MALFORMED)
        header = _header(token)
        kid, algorithm = header.get("kid"), header.get("alg")
        keys = [key for key in self._keys if key.algorithm == algorithm]
        if not keys:
            raise TokenRefused(Fault.ALGORITHM)
        keys = [key for key in keys if kid is None or key.kid in (None, kid)]
        if not keys:
            raise TokenRefused(Fault.KEY)
        for key in keys:
            try:
                payload = jwt.api_jws.decode(token, key.verifying, algorithms=[key.algorithm])
            except jwt.PyJWTError:
                continue
            return _claims(payload)
        raise TokenRefused(Fault.SIGNATURE)


def _header(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRefused(Fault.MALFORMED, f"Expected 3 parts in JWT; got {len(parts)}")
    try:
        header = json.loads(base64url_decode(parts[0]))
    except (ValueError, RecursionError):
        raise TokenRefused(Fault.MALFORMED) from None
    if not isinstance(header, dict):
        raise TokenRefused(Fault.MALFORMED)
    return header


def _claims(payload: bytes) -> _Verified:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRefused(Fault.CLAIMS, "Parsing claims failed")
    times = {"exp": float("inf"), "nbf": float("-inf"), "iat": float("-inf")}
    for name in times:
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TokenRefused(Fault.CLAIMS, f"The JWT '{name}' claim must be a number")
        times[name] = value
    audience = claims.get("aud")
    if not (
        audience is None
        or isinstance(audience, str)
        or (isinstance(audience, list) and all(isinstance(each, str) for each in audience))
    ):
        raise TokenRefused(
            Fault.CLAIMS, "The JWT 'aud' claim must be a string or an array of strings"
        )
    return _Verified(MappingProxyType(claims), times["exp"], times["nbf"], times["iat"])


def _is_meant_for(audience: str, named: str | list[str] | None) -> bool:
    if not named:
        return True
    return named == audience or (isinstance(named, list) and audience in named)
