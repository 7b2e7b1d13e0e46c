"""A live session, and why a refresh token may not continue one."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from amphibase.backend import NO_CLAIMS, Claims


class ReusePolicy(Enum):
    """What the reuse of a refresh token does.

    Supabase Auth revokes the tokens, so that access tokens live on until they expire, or, with
    rotation switched off, rejects that one token alone.
    """

    END_SESSION = "end_session"
    REVOKE_TOKENS = "revoke_tokens"
    REJECT = "reject"


class RefreshRejection(Enum):
    """Why a refresh token was rejected, in words for its bearer."""

    UNKNOWN = "The refresh token is not valid; sign in again"
    EXPIRED = "The session has expired; sign in again"
    INACTIVE = "The session was not used for too long; sign in again"
    WEAK = "The user has a second factor, which this session has not shown; sign in again"
    SUPERSEDED = "A newer session of the user has ended this one; sign in again"
    REUSED = "The refresh token was used before; the session has ended, sign in again"


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A live session and the refresh token to continue it with.

    Args:
        method: how the user has just proved who they are; `token_refresh` where they had before.
        claims: of its access token, as far as the front's hooks made them.
        is_repeated: whether the refresh token was issued before, and its response lost.
        weak_until: until when the session is good without a second factor, where its user has one
            and that is limited.
    """

    session_id: UUID
    user_id: UUID
    refresh_token: str
    amr: list[dict[str, Any]]
    aal: str = "aal1"
    method: str = "token_refresh"
    claims: Claims = field(default_factory=lambda: NO_CLAIMS)
    is_repeated: bool = False
    weak_until: datetime | None = None
