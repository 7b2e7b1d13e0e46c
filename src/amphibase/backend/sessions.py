"""Accounts and their sessions, as every backend describes them."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from amphibase.backend.caller import Claims


@dataclass(frozen=True, slots=True)
class Device:
    """Where a session was opened from, as shown in the list of sessions."""

    user_agent: str | None = None
    ip: str | None = None


UNKNOWN_DEVICE = Device()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account: who signs in, and whether they may."""

    id: UUID
    email: str
    email_confirmed_at: datetime | None
    banned_until: datetime | None
    last_sign_in_at: datetime | None
    user_metadata: Claims
    app_metadata: Claims
    created_at: datetime
    updated_at: datetime

    def is_banned(self, now: datetime) -> bool:
        """Return whether the account is banned at that time (aware)."""
        return self.banned_until is not None and self.banned_until > now


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a session.

    Args:
        expires_in: seconds until the access token expires.
        expires_at: when it expires, in seconds since the epoch.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    expires_at: int
    token_type: str = "bearer"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account with its tokens; without them while its address awaits confirmation.

    Args:
        password_required: whether no password counts and the user has to choose one.
    """

    account: Account
    tokens: Tokens | None
    password_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSession:
    """One place where a user is signed in."""

    id: UUID
    user_agent: str | None
    ip: str | None
    created_at: datetime
    refreshed_at: datetime
