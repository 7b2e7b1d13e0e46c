"""The tokens of sockets and channels."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.jwt.verifier import TokenRejected
from amphibase.gateway.realtime.errors import (
    ExpiredRealtimeToken,
    InvalidRealtimeToken,
    MalformedRealtimeToken,
    MissingApiKey,
    token_error,
)


@dataclass(frozen=True, slots=True)
class ChannelCaller:
    """Whom a token names.

    Attributes:
        token: the token itself.
        role: of the database.
        claims: JSON for `request.jwt.claims`.
        expires: when the token does, in seconds since 1970.
    """

    token: str
    role: str
    claims: str
    expires: float


def authenticate(tokens: KeyRing, token: str | None) -> ChannelCaller:
    """Return the caller that a token names.

    Raises:
        MissingApiKey: there is no token.
        InvalidRealtimeToken: it is not valid, or has no role or no expiry.
    """
    if not token:
        raise MissingApiKey
    try:
        claims: Mapping[str, Any] = tokens.verify(token, leeway=0)
    except TokenRejected as rejected:
        if rejected.expired is not None:
            raise ExpiredRealtimeToken(int(time() - rejected.expired)) from None
        raise token_error(rejected.fault, rejected.reason) from None
    role, expires = claims.get("role"), claims.get("exp")
    if not isinstance(role, str) or not role or expires is None:
        raise InvalidRealtimeToken
    # By `json`, which writes numbers of any size.
    text = json.dumps(dict(claims), separators=(",", ":"), ensure_ascii=False)
    # What no text of the database can hold: the character NUL, and half a character.
    if "\\u0000" in text or text != text.encode(errors="replace").decode():
        raise MalformedRealtimeToken
    return ChannelCaller(token, role, text, float(expires))
