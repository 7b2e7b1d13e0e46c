"""What the row of a user says about the account, and its metadata about the address."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from amphibase.backend import Claims
from amphibase.column_defaults import utc_now


def email_claims(id: UUID, email: str) -> dict[str, Any]:
    """Return what Supabase Auth writes into the metadata of users who sign up by email."""
    return {"sub": str(id), "email": email, "email_verified": False, "phone_verified": False}


def with_new_email(metadata: Claims | None, email: str) -> dict[str, Any]:
    """Return the metadata of a user who has proven another address."""
    changed = {**(metadata or {}), "email_verified": True}
    # Only a sign-up by email has written the address there.
    return {**changed, "email": email} if "email" in changed else changed


def is_unproven_sign_up(user: Row[Any]) -> bool:
    """Return whether the account is what an unconfirmed sign-up left.

    An account that an administrator created or invited is not: its metadata name no `sub`. Users
    can write one there, but not without having signed in.
    """
    return (
        user.email_confirmed_at is None
        and user.invited_at is None
        and user.last_sign_in_at is None
        and (user.raw_user_meta_data or {}).get("sub") == str(user.id)
    )


def awaits_invitation(user: Row[Any]) -> bool:
    """Return whether the user was invited and has not accepted: only the invitation admits them."""
    return (
        user.invited_at is not None
        and user.email_confirmed_at is None
        and user.last_sign_in_at is None
    )


def is_banned(user: Row[Any]) -> bool:
    """Return whether the user is banned now."""
    return user.banned_until is not None and user.banned_until > utc_now()
