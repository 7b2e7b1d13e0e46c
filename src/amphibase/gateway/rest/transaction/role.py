"""Whom a request acts as: the role and the claims of its token, or the anonymous role."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.jwt.verifier import TokenFault, TokenRejected
from amphibase.gateway.rest.errors.base import (
    AnonymousDisabled,
    InvalidClaims,
    JwtError,
    RestError,
)
from amphibase.gateway.rest.transaction.role_claim import RolePath

_MAX_CACHED = 10_000
_NO_CLAIMS: Mapping[str, Any] = {}

_CLAIM_FAULTS = {
    TokenFault.EXPIRED: "JWT expired",
    TokenFault.NOT_YET_VALID: "JWT not yet valid",
    TokenFault.ISSUED_IN_FUTURE: "JWT issued at future",
    TokenFault.AUDIENCE: "JWT not in audience",
}
_NO_KEY = "None of the keys was able to decode the JWT"


@dataclass(frozen=True, slots=True, eq=False)
class RequestRole:
    """A role of the database, and what its token says.

    It is compared by identity, so that it is a cheap key of what is derived from it.

    Attributes:
        claims: JSON for `request.jwt.claims`.
        is_anonymous: whether the role is the one for requests without a token's.
    """

    name: str
    claims: str
    is_anonymous: bool


class RoleResolver:
    """Recognises who sends a request.

    Args:
        tokens: verifies.
        anonymous: the role of requests without a token; None rejects these.
        audience: the `aud` that tokens need; None for any.
        role_path: where the role is in the claims, such as `.role`.
    """

    def __init__(
        self, tokens: KeyRing, anonymous: str | None, audience: str | None, role_path: str
    ) -> None:
        self._tokens = tokens
        self._anonymous = anonymous
        self._audience = audience
        self._path = RolePath(role_path)
        self._cached: OrderedDict[int, tuple[Mapping[str, Any], RequestRole]] = OrderedDict()

    def resolve(self, token: str | None) -> RequestRole:
        """Return whom the token of the `Authorization` header names; without one, the anonymous.

        Raises:
            JwtError: the token is invalid, or missing where one is required.
        """
        claims = _NO_CLAIMS if token is None else self._verify(token)
        # The tokens that the verifier caches have the same claims, the same object, each time.
        cached = self._cached.get(id(claims))
        if cached is not None and cached[0] is claims:
            return cached[1]
        role = self._of(claims)
        self._cached[id(claims)] = (claims, role)
        if len(self._cached) > _MAX_CACHED:
            self._cached.popitem(last=False)
        return role

    def _verify(self, token: str) -> Mapping[str, Any]:
        if not token:
            raise JwtError("Empty JWT is sent in Authorization header")
        try:
            return self._tokens.verify(token, audience=self._audience)
        except TokenRejected as rejected:
            raise _translate(rejected) from None

    def _of(self, claims: Mapping[str, Any]) -> RequestRole:
        role = self._path.find(claims)
        if role is None and self._anonymous is None:
            raise AnonymousDisabled
        name = (role or self._anonymous or "").encode(errors="replace").decode()
        # By the module that read them: it writes numbers of any size, and what no text can hold.
        text = json.dumps({**claims, "role": name}, separators=(",", ":"), sort_keys=True)
        return RequestRole(name, text, is_anonymous=name == self._anonymous)


def _translate(rejected: TokenRejected) -> RestError:
    match rejected.fault:
        case TokenFault.PARTS:
            return JwtError(rejected.reason)
        case TokenFault.MALFORMED:
            return JwtError("JWT couldn't be decoded")
        case TokenFault.ALGORITHM:
            return JwtError("Wrong or unsupported encoding algorithm")
        case TokenFault.KEY | TokenFault.SIGNATURE:
            return JwtError("No suitable key or wrong key type", _NO_KEY)
        case TokenFault.CLAIMS:
            return InvalidClaims(rejected.reason)
    return InvalidClaims(_CLAIM_FAULTS[rejected.fault])
