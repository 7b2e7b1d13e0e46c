"""What happens to accounts, in `auth.audit_log_entries` as Supabase Auth records it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, func, insert, or_, select, true

from amphibase.background import Background
from amphibase.column_defaults import utc_now
from amphibase.database.sql_connection import SqlConnection, SqlDatabase
from amphibase.database.together import execute_together
from amphibase.gateway.auth.pages import RequestedPage
from amphibase.schema.tables import Tables

KEPT = timedelta(days=90)
SWEEP_SECONDS = 3600
MAX_SWEPT = 10_000
"""How many old entries are deleted at once."""

Traits = Mapping[str, Any]


BY_EMAIL: Traits = {"provider": "email"}
BY_PHONE: Traits = {"provider": "phone"}


class AuditAction(StrEnum):
    """What was done; the words of Supabase Auth."""

    LOGIN = "login"
    LOGOUT = "logout"
    SIGNED_UP = "user_signedup"
    INVITED = "user_invited"
    INVITE_ACCEPTED = "invite_accepted"
    DELETED = "user_deleted"
    TOKEN_REVOKED = "token_revoked"
    TOKEN_REFRESHED = "token_refreshed"
    MODIFIED = "user_modified"
    RECOVERY_REQUESTED = "user_recovery_requested"
    REAUTHENTICATE_REQUESTED = "user_reauthenticate_requested"
    CONFIRMATION_REQUESTED = "user_confirmation_requested"
    REPEATED_SIGNUP = "user_repeated_signup"
    UPDATED_PASSWORD = "user_updated_password"
    FACTOR_IN_PROGRESS = "factor_in_progress"
    FACTOR_UNENROLLED = "factor_unenrolled"
    CHALLENGE_CREATED = "challenge_created"
    VERIFICATION_ATTEMPTED = "verification_attempted"
    FACTOR_DELETED = "factor_deleted"
    FACTOR_UPDATED = "factor_updated"
    IDENTITY_LINKED = "identity_linked"
    IDENTITY_UNLINKED = "identity_unlinked"


LOG_TYPES: Mapping[AuditAction, str] = {
    AuditAction.LOGIN: "account",
    AuditAction.LOGOUT: "account",
    AuditAction.SIGNED_UP: "team",
    AuditAction.INVITED: "team",
    AuditAction.INVITE_ACCEPTED: "account",
    AuditAction.DELETED: "team",
    AuditAction.TOKEN_REVOKED: "token",
    AuditAction.TOKEN_REFRESHED: "token",
    AuditAction.FACTOR_IN_PROGRESS: "factor",
    AuditAction.FACTOR_UNENROLLED: "factor",
    AuditAction.CHALLENGE_CREATED: "factor",
    AuditAction.VERIFICATION_ATTEMPTED: "factor",
    AuditAction.FACTOR_DELETED: "factor",
    AuditAction.FACTOR_UPDATED: "factor",
}
"""The kind of each action that is not `user`."""


class AuditLog:
    """Records actions, in the caller's transaction, and deletes entries that are too old.

    Args:
        background: runs the deletion.
        enabled: False records nothing (`GOTRUE_AUDIT_LOG_DISABLE_POSTGRES`).
    """

    def __init__(
        self, tables: Tables, database: SqlDatabase, background: Background, *, enabled: bool
    ) -> None:
        self._table = tables.audit_log_entries
        self._insert = insert(self._table)
        self._database = database
        self._background = background
        self._enabled = enabled
        self._next_sweep = 0.0

    async def record(
        self,
        connection: SqlConnection,
        user: Row[Any],
        *actions: AuditAction,
        traits: Traits | None = None,
        ip: str | None = None,
    ) -> None:
        """Record actions of a user.

        Args:
            traits: what else belongs to them.
            ip: the client's address, which Supabase Auth records with second factors and the
                linking of identities alone.
        """
        name = (user.raw_user_meta_data or {}).get("full_name")
        actor = {
            "actor_id": str(user.id),
            "actor_via_sso": bool(user.is_sso_user),
            "actor_username": user.phone or user.email or "",
            **({"actor_name": name} if name is not None else {}),
        }
        await self._write(connection, actor, actions, traits, ip)

    async def record_admin(
        self, connection: SqlConnection, role: str, action: AuditAction, traits: Traits
    ) -> None:
        """Record what the administration did.

        Args:
            role: of the token that did it.
        """
        actor = {"actor_id": str(UUID(int=0)), "actor_via_sso": False, "actor_username": role}
        await self._write(connection, actor, (action,), traits, None)

    async def _write(
        self,
        connection: SqlConnection,
        actor: Traits,
        actions: tuple[AuditAction, ...],
        traits: Traits | None,
        ip: str | None,
    ) -> None:
        if not self._enabled:
            return
        now = utc_now()
        entries = [
            {
                "id": uuid4(),
                "payload": {
                    **actor,
                    "action": action.value,
                    "log_type": LOG_TYPES.get(action, "user"),
                    **({"traits": dict(traits)} if traits is not None else {}),
                },
                "created_at": now,
                "ip_address": ip or "",
            }
            for action in actions
        ]
        await execute_together(connection, *((self._insert, entry) for entry in entries))
        if monotonic() >= self._next_sweep:
            self._next_sweep = monotonic() + SWEEP_SECONDS
            self._background.run("The deletion of old audit log entries", self.sweep())

    async def page(
        self,
        connection: SqlConnection,
        page: RequestedPage,
        fields: Sequence[str] = (),
        text: str = "",
    ) -> tuple[Sequence[Row[Any]], int]:
        """Return one page of entries, the newest first, and how many there are.

        Args:
            fields: of the payload, of which one has to contain `text`; none for all entries.
            text: a pattern of LIKE.
        """
        table = self._table
        contains = [table.c.payload[name].as_string().ilike(f"%{text}%") for name in fields]
        matches = or_(*contains) if contains and text else true()
        count = select(func.count()).select_from(table).where(matches)
        total = (await connection.execute(count)).scalar_one()
        order = table.c.created_at.desc(), table.c.id.desc()
        statement = select(table).where(matches).order_by(*order)
        rows = await connection.execute(statement.limit(page.size).offset(page.offset))
        return rows.all(), total

    async def sweep(self) -> None:
        """Delete the oldest entries that are older than `KEPT`."""
        table = self._table
        async with self._database.write() as connection:
            old = (
                select(table.c.id)
                .where(table.c.created_at < utc_now() - KEPT)
                .limit(MAX_SWEPT)
                .with_for_update(skip_locked=True)
            )
            await connection.execute(delete(table).where(table.c.id.in_(old)))


def user_traits(user: Row[Any]) -> Traits:
    """Return the traits of an action on a user."""
    return {
        "user_id": str(user.id),
        "user_email": user.email or "",
        "user_phone": user.phone or "",
    }


def factor_traits(factor: Row[Any]) -> Traits:
    """Return the traits of what the administration does to a second factor."""
    return {"user_id": str(factor.user_id), "factor_id": str(factor.id)}


def identity_traits(identity: Row[Any]) -> Traits:
    """Return the traits of an action on an identity."""
    return {
        "identity_id": str(identity.id),
        "provider": identity.provider,
        "provider_id": identity.provider_id,
    }
