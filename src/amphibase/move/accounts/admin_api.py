"""The admin API of a Supabase project's Auth.

The API takes a hash with a new user only and shows none; it has no identities but those of an
address and a number, no secrets of factors, and sets the times itself
(https://supabase.com/docs/reference/api, `/auth/v1/admin/users`).
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from amphibase.backend import SERVICE
from amphibase.errors import (
    Conflict,
    EmailAlreadyRegistered,
    InvalidRequest,
    InvalidValue,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from amphibase.models import utc_now
from amphibase.move.accounts.hashes import kind_of
from amphibase.move.accounts.rows import Values
from amphibase.move.parallel import Pace
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json

REJECTIONS = (InvalidRequest, InvalidValue, Conflict, NotFound)
"""Errors that are about a user; all others, such as a key that has expired, end the move."""

IN_FLIGHT = 16
"""Requests at once."""

PAGE = 1000
USERS_PATH = "/admin/users"

ADDED = {
    "raw_user_meta_data": {"email_verified", "phone_verified"},
    "raw_app_meta_data": {"provider", "providers"},
}
"""What Auth writes into a user's metadata by itself, where it is not sent."""

JsonObject = Mapping[str, Any]


class AdminApi:
    """The users of one project."""

    def __init__(self, client: SupabaseClient) -> None:
        self._client = client
        self._pace = Pace()

    async def create(self, user: Values) -> str | None:
        """Create a user with their id and hash; one who is there already stays as they are.

        Returns:
            None, or why Auth rejects the user.

        Raises:
            Retryable: Auth did not take the request after many attempts.
        """
        body = creation_body(user)

        async def attempt() -> str | None:
            try:
                await self._send("POST", USERS_PATH, content=body)
            except TooManyRequests:
                raise
            except (Unavailable, EmailAlreadyRegistered) as error:
                # The response to an earlier request may have been lost; Auth has no code for an id
                # that is taken.
                if await self.get(str(user["id"])) is not None:
                    return None
                if isinstance(error, Unavailable):
                    raise
                return str(error)
            except REJECTIONS as error:
                return str(error)
            return None

        return await self._pace.keep(attempt)

    async def get(self, id: str) -> JsonObject | None:
        """Return a user as Auth shows them; None for an unknown id."""

        async def attempt() -> JsonObject | None:
            try:
                response = await self._send("GET", f"{USERS_PATH}/{id}")
            except NotFound:
                return None
            user: JsonObject = read_json(response)
            return user

        return await self._pace.keep(attempt)

    async def change(self, user: Values) -> None:
        """Write everything of a user but the hash, which Auth takes of a new user only.

        Raises:
            AmphibaseError: Auth rejects the change.
        """
        fields = _fields(user)
        for name in ("id", "aud", "password_hash"):
            fields.pop(name, None)
        fields.setdefault("ban_duration", "none")
        shown = rows_of(await self.get(str(user["id"])) or {"id": user["id"]})[0]
        content = _body(fields, user, removed=shown)

        async def attempt() -> None:
            await self._send("PUT", f"{USERS_PATH}/{user['id']}", content=content, idempotent=True)

        await self._pace.keep(attempt)

    async def delete(self, id: str) -> bool:
        """Delete a user for good; return whether there was one."""

        async def attempt() -> bool:
            try:
                await self._send("DELETE", f"{USERS_PATH}/{id}", content=b"{}")
            except NotFound:
                return False
            return True

        return await self._pace.keep(attempt)

    async def sign_in(self, email: str, password: str) -> None:
        """Sign a user in with a password; the session is of no use. Raises AmphibaseError."""
        await self._client.request(
            "auth",
            "POST",
            "/token",
            SERVICE,
            params={"grant_type": "password"},
            json={"email": email, "password": password},
        )

    async def count(self) -> int | None:
        """Return how many users there are; None where Auth does not say so."""
        _, total = await self._page(1, 1)
        return total

    async def pages(self, number: int = 1) -> AsyncIterator[list[JsonObject]]:
        """Yield all users from a page on, newest first."""
        last = frozenset[str]()
        while True:
            users, total = await self._page(number, PAGE)
            # Those who signed up meanwhile have moved others onto this page.
            yield [user for user in users if user["id"] not in last]
            last = frozenset(user["id"] for user in users)
            if not users or (total is not None and number * PAGE >= total):
                return
            number += 1

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _page(self, number: int, size: int) -> tuple[list[JsonObject], int | None]:
        async def attempt() -> tuple[list[JsonObject], int | None]:
            params = {"page": str(number), "per_page": str(size)}
            response = await self._send("GET", USERS_PATH, params=params)
            total = response.headers.get("x-total-count", "")
            return read_json(response)["users"], int(total) if total.isdecimal() else None

        return await self._pace.keep(attempt)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        idempotent: bool = False,
    ) -> Any:
        return await self._client.request(
            "auth",
            method,
            path,
            SERVICE,
            params=params or {},
            headers={"Content-Type": "application/json"} if content is not None else None,
            content=content,
            idempotent=idempotent,
        )


def creation_body(user: Values) -> bytes:
    """Return the request that makes a user."""
    return _body(_fields(user), user)


def _fields(user: Values) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": user["id"]}
    for name in ("aud", "role", "email", "phone"):
        if user.get(name):
            fields[name] = user[name]
    hashed = user.get("encrypted_password")
    if hashed and kind_of(hashed).moves:
        fields["password_hash"] = hashed
    for name in ("email", "phone"):
        if user.get(f"{name}_confirmed_at"):
            fields[f"{name}_confirm"] = True
    if banned := ban_seconds(user):
        fields["ban_duration"] = f"{banned:.3f}s"
    return fields


def _body(fields: Mapping[str, Any], user: Values, removed: Values | None = None) -> bytes:
    """Return a request with the metadata of a user as they are, digit by digit.

    Args:
        removed: a user whose metadata is removed where it is not sent: Auth merges what it gets.
    """
    text = json.dumps(fields)[:-1]
    for field, column in (
        ("user_metadata", "raw_user_meta_data"),
        ("app_metadata", "raw_app_meta_data"),
    ):
        metadata = user.get(column) or ""
        sent = _object(metadata)
        shown = _object((removed or {}).get(column))
        others = shown.keys() - sent.keys() - ADDED[column]
        members = [metadata.strip()[1:-1]] if sent else []
        members += [f"{json.dumps(key)}: null" for key in sorted(others)]
        if members:
            text += f', "{field}": {{{", ".join(members)}}}'
    return f"{text}}}".encode(errors="surrogatepass")


MAX_BAN_SECONDS = 100 * 365 * 24 * 3600
"""A ban for good; a duration in Go, in which Auth reads it, ends at 292 years."""


def ban_seconds(user: Values) -> float:
    """Return for how long a user is banned from now; 0 for one who is not."""
    until = user.get("banned_until")
    if not until or until == "-infinity":
        return 0
    if until == "infinity":
        return MAX_BAN_SECONDS
    try:
        seconds = (_time(until) - utc_now()).total_seconds()
    except ValueError:  # a year that Python does not have
        return MAX_BAN_SECONDS
    return min(max(0.0, seconds), MAX_BAN_SECONDS)


def differences(user: Values, there: Values) -> list[str]:
    """Return which columns of a user Auth shows other than they were sent.

    Auth sets the times itself, and adds what it knows to the metadata.
    """
    # Auth stores addresses in lower case, and numbers without the sign.
    names = []
    if (user.get("email") or "").lower() != (there.get("email") or "").lower():
        names.append("email")
    if (user.get("phone") or "").lstrip("+") != (there.get("phone") or ""):
        names.append("phone")
    if (user.get("role") or "authenticated") != there["role"]:
        names.append("role")
    for name in ("email_confirmed_at", "phone_confirmed_at"):
        if bool(user.get(name)) != bool(there.get(name)):
            names.append(name)
    if bool(ban_seconds(user)) != bool(ban_seconds(there)):
        names.append("banned_until")
    for name, added in ADDED.items():
        sent, shown = _object(user.get(name)), _object(there[name])
        # Of a value that is NULL, Auth removes the key.
        keys = {key for key, value in sent.items() if value is not None}
        if any(sent.get(key) != shown.get(key) for key in keys | (shown.keys() - added)):
            names.append(name)
    return names


def digest(user: Values) -> str:
    """Return what a user who was sent shares with the same user as Auth shows them: without a
    password, times, and what Auth adds to the metadata by itself."""
    metadata = [
        {
            key: value
            for key, value in _object(user.get(name)).items()
            if value is not None and key not in added
        }
        for name, added in ADDED.items()
    ]
    shown = [
        (user.get("email") or "").lower(),
        (user.get("phone") or "").lstrip("+"),
        user.get("role") or "authenticated",
        *(bool(user.get(name)) for name in ("email_confirmed_at", "phone_confirmed_at")),
        bool(ban_seconds(user)),
        *metadata,
    ]
    text = json.dumps(shown, sort_keys=True)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _object(text: str | None) -> JsonObject:
    value = json.loads(text or "{}")
    return value if isinstance(value, dict) else {}


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def rows_of(shown: Mapping[str, Any]) -> tuple[Values, list[Values]]:
    """Return the row of a user as Auth shows them, without a hash, and the rows of identities."""
    user: Values = {"id": str(shown["id"])}
    for name in ("aud", "role"):
        user[name] = shown.get(name) or "authenticated"
    for name in ("email", "phone"):
        user[name] = shown.get(name) or None
    for name in USER_TIMES:
        user[name] = _timestamp(shown.get(name))
    user["raw_app_meta_data"] = json.dumps(shown.get("app_metadata") or {})
    user["raw_user_meta_data"] = json.dumps(shown.get("user_metadata") or {})
    user["is_anonymous"] = "t" if shown.get("is_anonymous") else "f"
    identities = [_identity(each) for each in shown.get("identities") or ()]
    is_sso = any(str(each["provider"]).startswith("sso:") for each in identities)
    user["is_sso_user"] = "t" if is_sso else "f"
    return user, identities


USER_TIMES = (
    "email_confirmed_at",
    "phone_confirmed_at",
    "invited_at",
    "confirmation_sent_at",
    "recovery_sent_at",
    "last_sign_in_at",
    "banned_until",
    "created_at",
    "updated_at",
    "deleted_at",
)


def _identity(shown: JsonObject) -> Values:
    return {
        "id": shown.get("identity_id"),
        "provider_id": shown["id"],
        "provider": shown["provider"],
        "user_id": shown["user_id"],
        "identity_data": json.dumps(shown.get("identity_data") or {}),
        **{
            name: _timestamp(shown.get(name))
            for name in ("last_sign_in_at", "created_at", "updated_at")
        },
    }


def _timestamp(text: str | None) -> str | None:
    """Return a time of RFC 3339 as Postgres writes it."""
    if not text:
        return None
    time = _time(text).astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    return f"{time.rstrip('0').rstrip('.') if '.' in time else time}+00"
