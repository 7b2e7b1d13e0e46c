"""Accounts on one's own database, as the service sees them: jobs, scripts and administrators."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from amphibase.accounts.email_change import EmailChanges
from amphibase.accounts.engine import AccountEngine, AddedClaims
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.mail.account_emails import AccountEmails
from amphibase.accounts.mail.mailer import build_mailer, sender_address
from amphibase.accounts.mail.templates import EmailTemplates
from amphibase.accounts.one_time_tokens import OneTimeTokens
from amphibase.accounts.passwords import check_hash, check_strength
from amphibase.accounts.previous_passwords import PreviousProject
from amphibase.accounts.sessions import Sessions
from amphibase.accounts.sign_up import SignUps
from amphibase.accounts.sign_up_policy import SignUpPolicy
from amphibase.accounts.users import EMAIL_PROVIDER, account_of, merged
from amphibase.backend import NO_CLAIMS, Account, Claims, Page
from amphibase.background import Background
from amphibase.database.engine import Database
from amphibase.errors import EmailAlreadyRegistered, InvalidRequest
from amphibase.models import utc_now, uuid7
from amphibase.records.cursors import Cursors
from amphibase.records.ordering import ordering
from amphibase.redaction import redacted_logger
from amphibase.schema.tables import tables
from amphibase.settings.application import Settings

logger = redacted_logger("amphibase.accounts")

INVITATION_LIFETIME = timedelta(days=7)


class SqlAccountAdministration:
    """Makes, invites, changes, bans and deletes accounts.

    Args:
        background: where emails are sent, after the response.
        added_claims: of access tokens; see `AccountEngine`.
        previous: the project that accounts without a password have come from.
    """

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        background: Background,
        settings: Settings,
        added_claims: AddedClaims,
        previous: PreviousProject | None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._cursors = Cursors(keys.derive("cursor"))
        self._tables = tables(database.dialect)
        self._sessions = Sessions(
            self._tables,
            keys.derive("refresh token"),
            timedelta(days=settings.refresh_token_days),
            timedelta(seconds=settings.refresh_reuse_seconds),
        )
        self._one_time_tokens = OneTimeTokens(self._tables)
        self._invitation_tokens = OneTimeTokens(self._tables, INVITATION_LIFETIME)
        self._engine = AccountEngine(
            database,
            self._tables,
            self._sessions,
            self._one_time_tokens,
            confirms_emails=settings.email_confirmation == "required",
            added_claims=added_claims,
            previous=previous,
        )
        self._users = self._engine.users
        self._passwords = self._engine.passwords
        self._sign_ups = SignUps(self._engine)
        self._email_changes = EmailChanges(self._engine)
        self._emails = AccountEmails(
            self._engine,
            self._sign_ups,
            EmailTemplates(settings.public_url, sender_address(settings), settings.routes_prefix),
            build_mailer(settings),
            background,
        )
        self._sign_up_policy = SignUpPolicy(settings.sign_up, settings.sign_up_domains)

    async def create(
        self,
        email: str,
        *,
        password: str | None = None,
        password_hash: str | None = None,
        id: UUID | None = None,
        email_confirmed: bool = True,
        user_metadata: Claims = NO_CLAIMS,
        app_metadata: Claims = NO_CLAIMS,
    ) -> Account:
        if password is not None and password_hash is not None:
            raise InvalidRequest("Give a password or a password hash, not both")
        if password is not None:
            check_strength(password, self._settings.password_min_length)
            password_hash = await self._passwords.hash(password)
        elif password_hash is not None:
            check_hash(password_hash)
        id = id or uuid7()
        async with self._database.write() as connection:
            await self._users.lock_address(connection, email)
            if await self._users.find_by_email(connection, email) is not None:
                raise EmailAlreadyRegistered
            await self._users.insert(
                connection,
                identity={},
                id=id,
                email=email.lower(),
                encrypted_password=password_hash or "",
                email_confirmed_at=utc_now() if email_confirmed else None,
                raw_user_meta_data=dict(user_metadata),
                raw_app_meta_data={**EMAIL_PROVIDER, **app_metadata},
            )
            if email_confirmed:
                await self._engine.pending.delete(connection, email.lower())
            return account_of(await self._users.get(connection, id))

    async def invite(
        self, email: str, *, user_metadata: Claims = NO_CLAIMS, app_metadata: Claims = NO_CLAIMS
    ) -> Account:
        self._sign_up_policy.check_invitation()
        async with self._database.write() as connection:
            row = await self._sign_ups.add_by_admin(connection, email.lower(), user_metadata)
            await self._users.change(
                connection,
                row.id,
                raw_app_meta_data=merged(row.raw_app_meta_data, app_metadata),
                invited_at=utc_now(),
                confirmation_sent_at=utc_now(),
            )
            token = await self._invitation_tokens.issue(
                connection, row.id, "confirmation_token", row.email
            )
            account = account_of(await self._users.get(connection, row.id))
        self._emails.send_invitation(account.email, token)
        return account

    async def get(self, id: UUID) -> Account | None:
        async with self._database.read() as connection:
            row = await self._users.find(connection, id)
        return account_of(row) if row else None

    async def get_by_email(self, email: str) -> Account | None:
        async with self._database.read() as connection:
            row = await self._users.find_by_email(connection, email)
        return account_of(row) if row else None

    async def list(self, *, cursor: str | None = None, limit: int = 100) -> Page[Account]:
        users = self._tables.users
        order = ordering([], [users.c.created_at, users.c.id], [], self._database.dialect)
        statement = (
            select(users, *(term.compared for term in order.terms))
            .where(users.c.deleted_at.is_(None))
            .order_by(*order.clauses)
            .limit(limit + 1)
        )
        if cursor is not None:
            position = order.read(self._cursors.read("accounts", cursor))
            statement = statement.where(order.after(position))
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).all()
        items = [account_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        position = order.position(rows[limit - 1][-len(order.terms) :])
        return Page(items, self._cursors.write("accounts", position))

    async def update(
        self,
        id: UUID,
        *,
        email: str | None = None,
        password: str | None = None,
        email_confirmed: bool | None = None,
        user_metadata: Claims | None = None,
        app_metadata: Claims | None = None,
    ) -> Account:
        password_hash = None
        if password is not None:
            check_strength(password, self._settings.password_min_length)
            password_hash = await self._passwords.hash(password)
        async with self._database.write() as connection:
            row = await self._users.get(connection, id, lock=True)
            role = (row.raw_app_meta_data or {}).get("role")
            if email is not None and email.lower() != row.email:
                await self._engine.change_email(connection, row, email.lower(), is_proven=False)
                row = await self._users.get(connection, id)
            values: dict[str, Any] = {}
            if user_metadata is not None:
                values["raw_user_meta_data"] = merged(row.raw_user_meta_data, user_metadata)
            if app_metadata is not None:
                values["raw_app_meta_data"] = merged(row.raw_app_meta_data, app_metadata)
            await self._users.change(connection, id, **values)
            if email_confirmed is not None:
                await self._engine.set_confirmed(connection, row, email_confirmed)
            if password_hash is not None:
                await self._engine.set_password(connection, row, password_hash)
            account = account_of(await self._users.get(connection, id))
            if account.app_metadata.get("role") != role:
                await self._sessions.end(connection, id)
            return account

    async def ban(self, id: UUID, duration: timedelta | None) -> Account:
        async with self._database.write() as connection:
            row = await self._users.get(connection, id, lock=True)
            until = None if duration is None else utc_now() + duration
            await self._engine.ban(connection, row, until)
            if until is not None:
                await self._sessions.end(connection, id)
            return account_of(await self._users.get(connection, id))

    async def delete(self, id: UUID) -> bool:
        async with self._database.write() as connection:
            return await self._engine.delete(connection, id)

    async def start(self) -> None:
        """Report what the settings say of accounts that exist."""
        if self._settings.email_confirmation == "required":
            await self._sign_ups.report_unproven()
        if self._engine.previous is not None:
            async with self._database.read() as connection:
                count = await self._engine.previous.count_left(connection)
            logger.info("%d accounts sign in with the password of the previous project", count)

    async def close(self) -> None:
        """Stop the password workers."""
        self._passwords.close()
        if self._engine.previous is not None:
            await self._engine.previous.close()
