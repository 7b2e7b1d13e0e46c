"""The parts that every endpoint of Auth works with."""

import base64
import hmac
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Row
from starlette.requests import Request

from amphibase.accounts.email_change import EmailChanges
from amphibase.accounts.engine import AccountEngine
from amphibase.accounts.external_identities import ExternalIdentities
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.oauth.flows import Challenge, PkceFlows
from amphibase.accounts.one_time_tokens import CodeKey, EmailToken, Kind, OneTimeTokens
from amphibase.accounts.open_session import OpenSession, ReusePolicy
from amphibase.accounts.sessions import Sessions
from amphibase.accounts.sign_up import SignUps
from amphibase.backend import Claims, Device
from amphibase.background import Background
from amphibase.column_defaults import utc_now, uuid7
from amphibase.database.pipeline_database import PipelineDatabase
from amphibase.database.sql_connection import SqlConnection
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.attempts import AttemptLimiter, MessageLimiter
from amphibase.gateway.auth.audit import AuditLog
from amphibase.gateway.auth.hooks.points import AuthHooks
from amphibase.gateway.auth.hooks.send_email import email_data
from amphibase.gateway.auth.mail_templates import AuthEmail, EmailQueue, MailTemplates, build_queue
from amphibase.gateway.auth.mfa_rows import Factors
from amphibase.gateway.auth.rate_limits import ClientRateLimiter, MessageQuota
from amphibase.gateway.auth.redirects import Redirects
from amphibase.gateway.auth.remote_templates import RemoteTemplates
from amphibase.gateway.auth.serializers import user as user_json
from amphibase.gateway.auth.settings import AuthSettings
from amphibase.gateway.auth.users import AuthUser, AuthUsers
from amphibase.schema.tables import tables

if TYPE_CHECKING:  # few projects have any
    from cryptography.fernet import Fernet

    from amphibase.accounts.oauth.providers import FlowSecrets, Provider, ProviderTokens


SHOWN_CHARACTERS = 5
"""How much of a refresh token a header shows, to tell tokens apart in logs."""


class Core:
    """The database, the keys, the account engine and the emails of one project.

    Args:
        database_url: as a role that owns the tables of `auth`.
        outbox: takes emails where no mail server is configured.
    """

    def __init__(
        self, settings: AuthSettings, database_url: str, tokens: KeyRing, outbox: EmailQueue
    ) -> None:
        self.settings = settings
        self.tokens = tokens
        self.database = PipelineDatabase(database_url, settings.db_max_pool_size)
        self.tables = tables("postgresql")
        code_secret = tokens.derive("one-time token")
        self.one_time_tokens = OneTimeTokens(
            self.tables,
            timedelta(seconds=settings.mailer_otp_exp),
            CodeKey(code_secret, settings.mailer_otp_length),
        )
        self.sms_tokens = OneTimeTokens(
            self.tables,
            timedelta(seconds=settings.sms_otp_exp),
            CodeKey(code_secret, settings.sms_otp_length),
        )
        self.sessions = Sessions(
            self.tables,
            tokens.derive("refresh token"),
            settings.session_lifetime,
            timedelta(seconds=settings.security_refresh_token_reuse_interval),
            ReusePolicy.REVOKE_TOKENS
            if settings.security_refresh_token_rotation_enabled
            else ReusePolicy.REJECT,
            timebox=settings.sessions_timebox or None,
            single_per_user=settings.sessions_single_per_user,
            weak_for=settings.sessions_allow_low_aal or None,
        )
        self.hooks = AuthHooks(settings)
        self.engine = AccountEngine(
            self.database,
            self.tables,
            self.sessions,
            self.one_time_tokens,
            confirms_emails=not settings.mailer_autoconfirm,
            stores_unproven_users=True,
            added_claims=self._hooked_claims if self.hooks.makes_claims else None,
        )
        self.sign_ups = SignUps(self.engine)
        self.email_changes = EmailChanges(self.engine)
        self.passwords = self.engine.passwords
        self.users = AuthUsers(self.tables, self.engine.users, self.database)
        self.factors = Factors(self.tables)
        self.factor_codes = CodeKey(tokens.derive("phone factor"), settings.mfa_phone_otp_length)
        self.flows = PkceFlows(self.tables)
        self.external_identities = ExternalIdentities(self.engine, self.tables)
        self._providers: dict[str, Provider] = {}
        self.attempts = AttemptLimiter()
        self.rate_limiter = ClientRateLimiter(settings)
        self.email_quota = MessageQuota(settings.rate_limit_email_sent, codes.EMAIL_QUOTA)
        self.sms_quota = MessageQuota(settings.rate_limit_sms_sent, codes.SMS_QUOTA)
        self.email_limiter = MessageLimiter(
            settings.smtp_max_frequency, codes.EMAIL_RATE_LIMIT, self.email_quota
        )
        self.sms_limiter = MessageLimiter(
            settings.sms_max_frequency, codes.SMS_RATE_LIMIT, self.sms_quota
        )
        self.redirects = Redirects(settings.site_url, settings.uri_allow_list)
        self.background = Background()
        self.remote_templates = RemoteTemplates(
            settings.template_urls(settings.site_url), self.background
        )
        self.templates = MailTemplates(settings, self.remote_templates)
        self.audit = AuditLog(
            self.tables,
            self.database,
            self.background,
            enabled=not settings.audit_log_disable_postgres,
        )
        self._queue = build_queue(settings, self.background, outbox)
        self._sanitized_key = tokens.derive("sanitized user")
        self._flow_key = tokens.derive("external flow")

    async def close(self) -> None:
        """Let emails under way go, then close everything else."""
        await self.background.close()
        await self.hooks.close()
        self.passwords.close()
        await self.database.close()

    def provider(self, name: str) -> "Provider | None":
        """Return a third party; None where it is not enabled."""
        registered = self.settings.provider(name)
        if registered is None:
            return None
        if name not in self._providers:
            from amphibase.accounts.oauth.providers import build_provider  # few have any

            self._providers[name] = build_provider(name, registered)
        return self._providers[name]

    def flow_secrets(self, state: str) -> "FlowSecrets":
        """Return what binds the two halves of a sign-in at a third party."""
        from amphibase.accounts.oauth.providers import FlowSecrets

        return FlowSecrets(self._flow_key, state)

    @cached_property
    def _flow_secrets(self) -> "Fernet":
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(self.tokens.derive("tokens of providers")))

    def sealed(self, secret: str) -> str:
        """Return a secret as a flow stores it: encrypted."""
        return self._flow_secrets.encrypt(secret.encode()).decode()

    def unsealed(self, secret: str) -> str:
        """Return what `sealed` encrypted."""
        return self._flow_secrets.decrypt(secret.encode()).decode()

    def sealed_provider_tokens(self, tokens: "ProviderTokens") -> dict[str, str | None]:
        """Return the columns of a flow that hold a third party's tokens, encrypted."""
        return {
            "provider_access_token": self.sealed(tokens.access_token),
            "provider_refresh_token": self.sealed(tokens.refresh_token)
            if tokens.refresh_token
            else None,
        }

    def provider_tokens(self, flow: Row[Any]) -> dict[str, str]:
        """Return what a session says of the third party's tokens in a flow."""
        sealed = {
            "provider_token": flow.provider_access_token,
            "provider_refresh_token": flow.provider_refresh_token,
        }
        return {name: self.unsealed(token) for name, token in sealed.items() if token}

    def send(self, *emails: AuthEmail | None) -> None:
        """Send emails; call it once what they are about is committed.

        The hook `send_email` sends them where it is enabled.
        """
        wanted = [email for email in emails if email is not None]
        if not self.hooks.sends_email:
            for email in wanted:
                self._queue.put(email.message)
        elif any(email.kind for email in wanted):
            self.background.run("The hook send_email", self._send_by_hook(wanted))

    async def _send_by_hook(self, emails: Sequence[AuthEmail]) -> None:
        async with self.database.write() as connection:
            user = await self._user_of(connection, emails[-1])
            if user is not None:
                data = email_data(emails, user.row.email, self.settings.site_url)
                await self.hooks.send_email(connection, user_json(user), data)

    async def _user_of(self, connection: SqlConnection, email: AuthEmail) -> AuthUser | None:
        """Return whom an email is about; of two, the last is that to the current address."""
        if email.user_id is not None:
            return await self.users.find(connection, email.user_id)
        user = await self.users.find_by_email(connection, email.recipient)
        return user or await self.users.find_by_new_email(connection, email.recipient)

    async def imitate_email(
        self,
        connection: SqlConnection,
        email: str,
        kind: Kind,
        method: str,
        challenge: Challenge | None,
    ) -> EmailToken:
        """Cost what an email to a user costs, for an address without one, and keep nothing.

        The statements are as many: by their time, too, nobody learns whether there is an account.

        Args:
            method: of the flow that a challenge begins.

        Returns:
            A token that is good for nothing.
        """
        nobody = uuid7()
        token = self.one_time_tokens.new(email, kind, pkce=challenge is not None)
        await self.users.imitate(connection, nobody)
        if challenge is not None:
            await self.flows.begin(connection, nobody, method, challenge)
            await self.flows.discard(connection, nobody)
        else:
            await self.users.change(connection, nobody, recovery_sent_at=utc_now())
        await self.sign_ups.write_and_discard(connection, email, token)
        return token

    def sanitized_id(self, *parts: str) -> UUID:
        """Return the id that a sign-up shows instead of one that its sender may not know.

        It is the same each time, as a real one is.
        """
        content = "\0".join(parts).encode("utf-8", "surrogatepass")
        return UUID(bytes=hmac.digest(self._sanitized_key, content, "sha256")[:16], version=4)

    async def open_session(
        self, connection: SqlConnection, user_id: UUID, request: Request, method: str
    ) -> dict[str, Any]:
        """Sign the user in and return the body of the response.

        Args:
            method: how they proved who they are, for the `amr` claim.
        """
        await self.users.change(connection, user_id, last_sign_in_at=utc_now())
        user = await self.users.get(connection, user_id)
        session = await self.engine.open_session(connection, user.row, device_of(request), method)
        name_session(request, session)
        return self.session_json(user, session)

    async def add_email_identity(
        self, connection: SqlConnection, before: AuthUser, password: str | None
    ) -> None:
        """Give a user with a first password the identity by email, where the settings say so.

        Args:
            before: the user, without the password.
            password: the new one, if any.
        """
        wanted = self.settings.experimental_create_email_identity_on_password_set_enabled
        if wanted and password and not before.row.encrypted_password:
            user = await self.users.get(connection, before.id)
            await self.users.add_email_identity(connection, user)

    def session_json(self, user: AuthUser, session: OpenSession) -> dict[str, Any]:
        """Return a session as clients get it."""
        claims = session.claims or self._claims(user.row, session)
        now = int(utc_now().timestamp())
        expires_at = self._expires_at(session, now)
        return {
            "access_token": self.tokens.issue(claims),
            "token_type": "bearer",
            "expires_in": expires_at - now,
            "expires_at": expires_at,
            "refresh_token": session.refresh_token,
            "user": user_json(user),
        }

    def _expires_at(self, session: OpenSession, now: int) -> int:
        """Return when an access token ends that is issued now."""
        expires_at = now + self.settings.jwt_exp
        if session.weak_until is None:
            return expires_at
        return min(expires_at, int(session.weak_until.timestamp()))

    async def _hooked_claims(
        self, connection: SqlConnection, row: Row[Any], session: OpenSession
    ) -> Claims:
        claims = self._claims(row, session)
        return await self.hooks.access_token_claims(connection, claims, session.method)

    def _claims(self, row: Row[Any], session: OpenSession) -> Claims:
        now = int(utc_now().timestamp())
        return {
            "iss": self.settings.issuer,
            "sub": str(row.id),
            "aud": row.aud or self.settings.jwt_aud,
            "exp": self._expires_at(session, now),
            "iat": now,
            "email": row.email or "",
            "phone": row.phone or "",
            "app_metadata": row.raw_app_meta_data or {},
            "user_metadata": row.raw_user_meta_data or {},
            "role": row.role or "",
            "aal": session.aal,
            "amr": session.amr,
            "session_id": str(session.session_id),
            "is_anonymous": row.is_anonymous,
        }


def name_session(request: Request, session: OpenSession) -> None:
    """Let the headers of the response name a session, as those of Supabase Auth do."""
    request.state.session_headers = {
        "sb-auth-user-id": str(session.user_id),
        "sb-auth-session-id": str(session.session_id),
        "sb-auth-refresh-token-prefix": session.refresh_token[:SHOWN_CHARACTERS],
    }


def device_of(request: Request) -> Device:
    """Return where a request comes from."""
    agent = request.headers.get("user-agent", "")
    return Device(agent[:1024].replace("\0", "") or None, address_of(request))


def address_of(request: Request) -> str | None:
    """Return the IP address of the client; None where the server knows none."""
    host = request.client.host if request.client else ""
    try:
        return str(ip_address(host))
    except ValueError:
        return None
