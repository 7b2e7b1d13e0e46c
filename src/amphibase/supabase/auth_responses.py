"""What Auth responds with, as values of the contract."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from amphibase.backend import Account, SignedIn, Tokens
from amphibase.errors import Unavailable
from amphibase.supabase.errors import read_json

Json = Mapping[str, Any]


def read_account(response: httpx.Response) -> Account:
    """Read a user. Raises Unavailable for a response that is none."""
    return account_of(_object(response))


def read_signed_in(response: httpx.Response) -> SignedIn:
    """Read a session with its user, or a user alone, whose address awaits confirmation.

    Raises:
        Unavailable: the response is neither.
    """
    content = _object(response)
    if "access_token" not in content:
        return SignedIn(account_of(content), None)
    try:
        tokens = Tokens(
            content["access_token"],
            content["refresh_token"],
            content["expires_in"],
            content["expires_at"],
            content["token_type"],
        )
        return SignedIn(account_of(content["user"]), tokens)
    except KeyError as error:
        raise _incomplete(error) from None


def account_of(user: Json) -> Account:
    """Return the account that the JSON object of a user describes.

    Raises:
        Unavailable: it lacks what every user has.
    """
    try:
        return Account(
            id=UUID(user["id"]),
            email=user.get("email") or "",
            email_confirmed_at=_time(user.get("email_confirmed_at")),
            banned_until=_time(user.get("banned_until")),
            last_sign_in_at=_time(user.get("last_sign_in_at")),
            user_metadata=user.get("user_metadata") or {},
            app_metadata=user.get("app_metadata") or {},
            created_at=datetime.fromisoformat(user["created_at"]),
            updated_at=datetime.fromisoformat(user["updated_at"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise _incomplete(error) from None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _object(response: httpx.Response) -> Json:
    content = read_json(response)
    if not isinstance(content, dict):
        raise _incomplete(TypeError("no object"))
    return content


def _incomplete(error: Exception) -> Unavailable:
    return Unavailable(f"Auth of the Supabase project sent something unexpected: {error}")
