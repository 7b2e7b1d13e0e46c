"""The parts that every call of Auth works with."""

from datetime import datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request

from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.one_time_tokens import Links
from amphibase.accounts.passwords import PasswordWorkers
from amphibase.accounts.sessions import Opened, Sessions
from amphibase.accounts.users import AccountRows
from amphibase.backend import Device
from amphibase.background import Background
from amphibase.database.engine import Database, PoolOptions
from amphibase.gateway.auth.codes import Codes, Guesses
from amphibase.gateway.auth.errors import AuthError, no_phone
from amphibase.gateway.auth.mail_templates import Letters, Post, build_post
from amphibase.gateway.auth.mfa_rows import Factors
from amphibase.gateway.auth.pkce import Flows
from amphibase.gateway.auth.redirects import Redirects
from amphibase.gateway.auth.serializers import user as user_answer
from amphibase.gateway.auth.settings import AuthSettings
from amphibase.gateway.auth.users import Person, Users
from amphibase.models import utc_now
from amphibase.schema.tables import tables


class Core:
    """The rows, the keys and the post of one project.

    Args:
        database_url: as a role that owns the tables of `auth`.
        outbox: takes letters where no mail server is configured.
    """

    def __init__(
        self, settings: AuthSettings, database_url: str, tokens: KeyRing, outbox: Post
    ) -> None:
        self.settings = settings
        self.tokens = tokens
        self.database = Database(database_url, PoolOptions(size=settings.db_max_pool_size))
        found = tables(self.database.dialect)
        self.tables = found
        self.rows = AccountRows(found)
        self.users = Users(found)
        self.factors = Factors(found)
        self.flows = Flows(found)
        self.codes = Codes(
            Links(found, timedelta(seconds=settings.mailer_otp_exp)),
            tokens.derive("one-time token"),
            settings.mailer_otp_length,
        )
        self.sessions = Sessions(
            found,
            tokens.derive("refresh token"),
            settings.session_lifetime,
            timedelta(seconds=settings.security_refresh_token_reuse_interval),
            "revokes its tokens"
            if settings.security_refresh_token_rotation_enabled
            else "is refused",
        )
        self.passwords = PasswordWorkers()
        self.guesses = Guesses()
        self.redirects = Redirects(settings.site_url, settings.uri_allow_list)
        self.letters = Letters(settings)
        self.background = Background()
        self._post = build_post(settings, self.background, outbox)

    async def close(self) -> None:
        """Let letters under way go, then everything else."""
        await self.background.close()
        self.passwords.close()
        await self.database.close()

    def send(self, *letters: EmailMessage | None) -> None:
        """Send letters; call it when what they are about is committed."""
        for letter in letters:
            if letter is not None:
                self._post.put(letter)

    def check_phones(self, what: str) -> None:
        """Raise AuthError where there are no phone numbers.

        Args:
            what: is asked for, in the plural.
        """
        if not self.settings.takes_phones:
            raise no_phone(what)

    def check_frequency(self, sent_at: datetime | None) -> None:
        """Raise AuthError if the last letter of a kind went out only just now."""
        if sent_at is None:
            return
        left = sent_at + self.settings.smtp_max_frequency - utc_now()
        if left > timedelta(0):
            seconds = max(1, round(left.total_seconds()))
            raise AuthError(
                429,
                "over_email_send_rate_limit",
                f"For security purposes, you can only request this after {seconds} seconds.",
            )

    async def open_session(
        self, connection: AsyncConnection, user_id: UUID, request: Request, method: str
    ) -> dict[str, Any]:
        """Sign the user in; the answer to that.

        Args:
            method: how they proved who they are, for the `amr` claim.
        """
        opened = await self.sessions.open(connection, user_id, device_of(request), method)
        await self.users.change(connection, user_id, last_sign_in_at=utc_now())
        return self.session_answer(await self.users.get(connection, user_id), opened)

    def session_answer(self, person: Person, opened: Opened) -> dict[str, Any]:
        """What whoever holds a session gets."""
        now = int(utc_now().timestamp())
        lifetime = self.settings.jwt_exp
        row = person.row
        claims = {
            "iss": self.settings.issuer,
            "sub": str(person.id),
            "aud": row.aud or self.settings.jwt_aud,
            "exp": now + lifetime,
            "iat": now,
            "email": row.email or "",
            "phone": row.phone or "",
            "app_metadata": row.raw_app_meta_data or {},
            "user_metadata": row.raw_user_meta_data or {},
            "role": row.role or "",
            "aal": opened.aal,
            "amr": opened.amr,
            "session_id": str(opened.session_id),
            "is_anonymous": row.is_anonymous,
        }
        return {
            "access_token": self.tokens.issue(claims),
            "token_type": "bearer",
            "expires_in": lifetime,
            "expires_at": now + lifetime,
            "refresh_token": opened.refresh_token,
            "user": user_answer(person),
        }


def device_of(request: Request) -> Device:
    """Where a request comes from."""
    agent = request.headers.get("user-agent", "")
    return Device(agent[:1024].replace("\0", "") or None, address_of(request))


def address_of(request: Request) -> str | None:
    """The address of the client, as far as it is one."""
    host = request.client.host if request.client else ""
    try:
        return str(ip_address(host))
    except ValueError:
        return None
