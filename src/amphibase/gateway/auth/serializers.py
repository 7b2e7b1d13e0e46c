"""Users, identities and factors as JSON, field by field as Supabase Auth has them: what is empty is
left out where it leaves it out."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from amphibase.gateway.auth.users import AuthUser


def timestamp(value: datetime) -> str:
    """Return a time as in RFC 3339, in UTC, without needless zeros."""
    value = value.astimezone(UTC)
    fraction = f".{value.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{value.replace(microsecond=0, tzinfo=None).isoformat()}{fraction}Z"


def by_name(value: Any) -> Any:
    """Return a value of JSON with its members in the order of their names, as Go writes maps."""
    return json.loads(json.dumps(value, sort_keys=True))


def user(user: AuthUser) -> dict[str, Any]:
    """Return a user, with identities and factors."""
    row = user.row
    fields = {
        "id": str(row.id),
        "aud": row.aud or "",
        "role": row.role or "",
        "email": row.email or "",
        **_times(row, "email_confirmed_at", "invited_at"),
        "phone": row.phone or "",
        **_times(
            row, "phone_confirmed_at", "confirmation_sent_at", "confirmed_at", "recovery_sent_at"
        ),
    }
    if row.email_change:
        fields["new_email"] = row.email_change
    fields |= _times(row, "email_change_sent_at")
    if row.phone_change:
        fields["new_phone"] = row.phone_change
    fields |= _times(row, "phone_change_sent_at", "reauthentication_sent_at", "last_sign_in_at")
    fields["app_metadata"] = by_name(row.raw_app_meta_data or {})
    fields["user_metadata"] = by_name(row.raw_user_meta_data or {})
    if user.factors:
        fields["factors"] = [factor(each) for each in user.factors]
    fields["identities"] = [identity(each) for each in user.identities]
    fields |= _times(row, "created_at", "updated_at", "banned_until", "deleted_at")
    fields["is_anonymous"] = row.is_anonymous
    return fields


def changed_user(changed: AuthUser, before: AuthUser | None) -> dict[str, Any]:
    """Return a user who was changed, as Supabase Auth shows one: it does not read again what the
    database derives (`confirmed_at`), nor the identities that were there.

    Args:
        before: None for a user who is new, and whose identities are as they are.
    """
    shown = changed
    if before is not None:
        known = {identity.id for identity in before.identities}
        added = [identity for identity in changed.identities if identity.id not in known]
        shown = AuthUser(changed.row, [*before.identities, *added], changed.factors)
    fields = user(shown)
    if before is None or before.row.confirmed_at is None:
        fields.pop("confirmed_at", None)
    return fields


def listed_user(row: Row[Any]) -> dict[str, Any]:
    """Return a user in a list, which Supabase Auth reads without identities and factors."""
    return {**user(AuthUser(row, (), ())), "identities": None}


def identity(row: Row[Any]) -> dict[str, Any]:
    """Return one way in which a user signs in; `id` is the provider's."""
    fields = {
        "identity_id": str(row.id),
        "id": row.provider_id,
        "user_id": str(row.user_id),
        **({"identity_data": by_name(row.identity_data)} if row.identity_data else {}),
        "provider": row.provider,
        **_times(row, "last_sign_in_at", "created_at", "updated_at"),
    }
    return {**fields, "email": row.email} if row.email else fields


def factor(row: Row[Any]) -> dict[str, Any]:
    """Return a second factor, without its secret."""
    fields = {
        "id": str(row.id),
        **_times(row, "created_at", "updated_at"),
        "status": row.status,
        **({"friendly_name": row.friendly_name} if row.friendly_name else {}),
        "factor_type": row.factor_type,
        "phone": row.phone or "",
    }
    return {**fields, "last_challenged_at": None, **_times(row, "last_challenged_at")}


def _times(row: Row[Any], *names: str) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in names}
    return {name: timestamp(value) for name, value in values.items() if value is not None}
