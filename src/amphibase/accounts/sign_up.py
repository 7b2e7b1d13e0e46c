"""Sign-up: what is stored until the address is proven, and whose password then counts.

Who signs up with an address is unknown until an email has reached its owner. So a sign-up
changes nothing of an account: it waits with its own token, and other sign-ups for the address wait
beside it. Following the link of a sign-up makes its password the account's only where every
password that was pending at the same time was the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row

from amphibase.accounts.engine import AccountEngine
from amphibase.accounts.one_time_tokens import EmailToken
from amphibase.accounts.pending_sign_ups import MAX_PENDING
from amphibase.accounts.sessions import digest
from amphibase.accounts.user_states import awaits_invitation, email_claims, is_unproven_sign_up
from amphibase.accounts.users import EMAIL_PROVIDER, merged
from amphibase.backend import NO_CLAIMS, Claims
from amphibase.column_defaults import utc_now, uuid7
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import EmailAlreadyRegistered
from amphibase.redaction import redacted_logger

logger = redacted_logger("amphibase.accounts")

MAX_COUNTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpRequest:
    """A sign-up by email.

    Args:
        email: in lower case.
        password: None for a user who signs in by links and codes only.
        ip: the client's address, which distinguishes a repeated request from another client's.
        columns: further columns of the user's row, where the front has any.
        user_id: of the user, where the sign-up adds one.
    """

    email: str
    password: str | None = field(repr=False)
    user_metadata: Claims
    ip: str | None = None
    code_challenge: str = ""
    code_challenge_method: str = ""
    columns: Claims = field(default_factory=dict)
    user_id: UUID = field(default_factory=uuid4)


class SignUpEmail(Enum):
    """Which email a sign-up sends."""

    CONFIRMATION = "confirmation"
    ACCOUNT_EXISTS = "account_exists"


@dataclass(frozen=True, slots=True)
class SignUpResult:
    """What a sign-up that awaits confirmation leads to.

    Args:
        user_id: of the user that the front shows; None where it is not to be known.
        email: which email to send; None sends nothing.
        token: for the confirmation.
    """

    user_id: UUID | None
    email: SignUpEmail | None
    token: EmailToken


@dataclass(frozen=True, slots=True)
class ProvenSignUp:
    """A user whose address a sign-up's token has proven.

    Args:
        password_required: whether the user chose a password and has to choose it again.
        is_new: whether the sign-up made the account; else an administrator did.
        sign_up: the row of the sign-up, with its PKCE challenge.
    """

    user: Row[Any]
    password_required: bool
    is_new: bool
    sign_up: Row[Any]


class SignUps:
    """Takes sign-ups and proves them; all of it happens under a lock on the address."""

    def __init__(self, engine: AccountEngine) -> None:
        self._engine = engine
        self._users = engine.users
        self._pending = engine.pending

    async def add_confirmed(
        self, connection: SqlConnection, request: SignUpRequest, password_hash: str
    ) -> Row[Any]:
        """Add an account at once, where addresses need no confirmation; return its row.

        Raises:
            EmailAlreadyRegistered: another user has the address.
        """
        await self._users.lock_address(connection, request.email)
        user = await self._users.find_by_email(connection, request.email, lock=True)
        if user is None:
            user = await self._insert(connection, request.user_id, request)
        elif not is_unproven_sign_up(user):
            raise EmailAlreadyRegistered
        return await self._engine.prove_email(
            connection,
            user,
            password_hash=password_hash,
            user_metadata=request.user_metadata,
            # As in Supabase Auth: nobody has shown that an email reaches them there.
            marks_identities=False,
        )

    async def add_by_admin(
        self,
        connection: SqlConnection,
        email: str,
        user_metadata: Claims,
        password_hash: str | None = None,
        columns: Claims = NO_CLAIMS,
    ) -> Row[Any]:
        """Add an account that awaits the proof of its address, by an administrator's word.

        What a sign-up left in the account is replaced; what another administrator set stays.

        Raises:
            EmailAlreadyRegistered: another user has confirmed the address.
        """
        await self._users.lock_address(connection, email)
        user = await self._users.find_by_email(connection, email, lock=True)
        if user is not None and user.email_confirmed_at is not None:
            raise EmailAlreadyRegistered
        if user is None:
            columns = {"id": uuid7(), **columns}
            await self._users.insert(
                connection,
                identity={},
                email=email,
                encrypted_password=password_hash or "",
                raw_user_meta_data=dict(user_metadata),
                raw_app_meta_data=dict(EMAIL_PROVIDER),
                **columns,
            )
            return await self._users.get(connection, columns["id"])
        metadata = {} if is_unproven_sign_up(user) else user.raw_user_meta_data
        values: dict[str, Any] = {"raw_user_meta_data": merged(metadata, user_metadata)}
        if password_hash is not None:
            values["encrypted_password"] = password_hash
        await self._users.change(connection, user.id, **values)
        return await self._users.get(connection, user.id)

    async def add_pending(self, request: SignUpRequest) -> SignUpResult:
        """Store a sign-up until its address is proven.

        The work is the same whether the address is new, pending or taken.
        """
        password_hash = await self._hash(request.password)
        while True:
            async with self._engine.database.read() as connection:
                pending = await self._pending.valid(connection, request.email)
            compared = pending[0] if pending else None
            is_same = await self._is_same_password(request.password, compared)
            async with self._engine.database.write() as connection:
                await self._users.lock_address(connection, request.email)
                pending = await self._pending.valid(connection, request.email)
                # Otherwise another sign-up came in between: compare with that one.
                if [row.id for row in pending[:1]] == ([compared.id] if compared else []):
                    is_contested = any(row.is_contested for row in pending) or not is_same
                    return await self._store(
                        connection, request, password_hash, pending, is_contested
                    )

    async def renew(self, connection: SqlConnection, request: SignUpRequest) -> EmailToken | None:
        """Issue the token of a sign-up again; return None where nothing is to be sent.

        Only the requester's own sign-up is renewed. Where there are only those of others, the
        token proves the address and brings no password with it.
        """
        await self._users.lock_address(connection, request.email)
        user = await self._users.find_by_email(connection, request.email, lock=True)
        pending = await self._pending.valid(connection, request.email)
        token = self._new_token(request)
        own = [row for row in pending if _same_client(row, request)]
        is_proven = user is not None and user.email_confirmed_at is not None
        is_unknown = not pending and (user is None or awaits_invitation(user))
        if is_proven or is_unknown or (not own and len(pending) >= MAX_PENDING):
            await self.write_and_discard(connection, request.email, token)
            return None
        if own:
            await self._pending.renew(connection, own[-1].id, **_token_columns(request, token))
        else:
            await self._add(connection, uuid7(), request, None, token, is_contested=True)
            await self._pending.contest(connection, request.email, True)
        if user is not None:
            await self._users.change(connection, user.id, confirmation_sent_at=utc_now())
        return token

    async def redeem(
        self, connection: SqlConnection, *tokens: str, keeps_password: bool = True
    ) -> ProvenSignUp | None:
        """Prove the address of a sign-up by its token; return None where no token is valid.

        Args:
            tokens: forms of one token.
            keeps_password: False where the password was not repeated.
        """
        sign_up = await self._pending.find(connection, *tokens)
        if sign_up is None:
            return None
        await self._users.lock_address(connection, sign_up.email)
        sign_up = await self._pending.find(connection, *tokens)
        if sign_up is None:
            return None
        user = await self._users.find_by_email(connection, sign_up.email, lock=True)
        if user is not None and user.email_confirmed_at is not None:
            return None
        if user is None:
            user = await self._insert(connection, sign_up.id, _request_of(sign_up))
        # A sign-up adds no password to an account that an administrator created or invited.
        is_new = is_unproven_sign_up(user)
        password_hash = sign_up.encrypted_password
        if sign_up.is_contested or not keeps_password or not is_new:
            password_hash = None
        user = await self._engine.prove_email(
            connection,
            user,
            password_hash=password_hash,
            user_metadata=sign_up.raw_user_meta_data,
        )
        wanted_password = sign_up.encrypted_password is not None
        password_required = wanted_password and not user.encrypted_password
        return ProvenSignUp(user, password_required, is_new, sign_up)

    async def find(self, token: str) -> Row[Any] | None:
        """Return the sign-up that a token would prove."""
        async with self._engine.database.read() as connection:
            return await self._pending.find(connection, token)

    async def report_unproven(self) -> None:
        """Log how many accounts count as proven since they were made without a confirmation."""
        async with self._engine.database.read() as connection:
            count = await self._users.count_confirmed_without_email(connection, MAX_COUNTED)
        if count:
            logger.warning(
                "The confirmation of addresses is required of new sign-ups alone; accounts that "
                "were made without one count as confirmed: %d%s",
                count,
                " or more" if count == MAX_COUNTED else "",
            )

    async def write_and_discard(
        self, connection: SqlConnection, email: str, token: EmailToken
    ) -> None:
        """Write as much as an email's token costs and keep nothing, for an address without one."""
        id = uuid7()
        await self._pending.add(
            connection, id=id, email=email, raw_user_meta_data={}, token_hash=digest(token.token)
        )
        await self._pending.discard(connection, id)

    async def _store(
        self,
        connection: SqlConnection,
        request: SignUpRequest,
        password_hash: str | None,
        pending: Sequence[Row[Any]],
        is_contested: bool,
    ) -> SignUpResult:
        user = await self._users.find_by_email(connection, request.email, lock=True)
        is_proven = user is not None and user.email_confirmed_at is not None
        token, id = self._new_token(request), request.user_id
        # One that is not stored counts as well: its sender may be the owner of the address.
        await self._pending.contest(connection, request.email, is_contested)
        own = [row for row in pending if _is_repeated(row, request)]
        if len(pending) >= MAX_PENDING and not own:
            await self.write_and_discard(connection, request.email, token)
            return SignUpResult(user.id if user and not is_proven else None, None, token)
        if user is None and self._engine.stores_unproven_users:
            user = await self._insert(connection, id, request)
        if own:
            columns = _token_columns(request, token)
            metadata = dict(request.user_metadata)
            await self._pending.renew(
                connection, own[-1].id, raw_user_meta_data=metadata, **columns
            )
        else:
            await self._add(
                connection, id, request, password_hash, token, is_contested=is_contested
            )
        if is_proven:
            # At most one for the time that a token is valid.
            email = SignUpEmail.ACCOUNT_EXISTS if not pending else None
            return SignUpResult(None, email, token)
        if user is not None:
            await self._users.change(connection, user.id, confirmation_sent_at=utc_now())
        return SignUpResult(user.id if user else id, SignUpEmail.CONFIRMATION, token)

    async def _insert(
        self, connection: SqlConnection, id: UUID, request: SignUpRequest
    ) -> Row[Any]:
        stored = self._engine.stores_unproven_users
        await self._users.insert(
            connection,
            identity=dict(request.user_metadata) if stored else {},
            id=id,
            email=request.email,
            encrypted_password="",
            # The `sub` marks the row as unproven until `prove_email` writes the metadata.
            raw_user_meta_data={
                **(request.user_metadata if stored else {}),
                **email_claims(id, request.email),
            },
            raw_app_meta_data=dict(EMAIL_PROVIDER),
            **request.columns,
        )
        return await self._users.get(connection, id)

    async def _add(
        self,
        connection: SqlConnection,
        id: UUID,
        request: SignUpRequest,
        password_hash: str | None,
        token: EmailToken,
        *,
        is_contested: bool,
    ) -> None:
        await self._pending.add(
            connection,
            id=id,
            email=request.email,
            encrypted_password=password_hash,
            raw_user_meta_data=dict(request.user_metadata),
            ip=request.ip,
            is_contested=is_contested,
            **_token_columns(request, token),
        )

    def _new_token(self, request: SignUpRequest) -> EmailToken:
        has_challenge = bool(request.code_challenge)
        return self._engine.tokens.new(request.email, "confirmation_token", pkce=has_challenge)

    async def _hash(self, password: str | None) -> str | None:
        return None if password is None else await self._engine.passwords.hash(password)

    async def _is_same_password(self, password: str | None, sign_up: Row[Any] | None) -> bool:
        password_hash = sign_up.encrypted_password if sign_up is not None else None
        if password is None:
            return sign_up is None or password_hash is None
        # Verified in every case, so that the time does not reveal whether any is pending.
        matches = await self._engine.passwords.verify(password, password_hash)
        return matches or sign_up is None


def _token_columns(request: SignUpRequest, token: EmailToken) -> dict[str, Any]:
    return {
        "token_hash": digest(token.token),
        "code_challenge": request.code_challenge or None,
        "code_challenge_method": request.code_challenge_method.lower() or None,
    }


def _request_of(sign_up: Row[Any]) -> SignUpRequest:
    return SignUpRequest(
        email=sign_up.email,
        password=None,
        user_metadata=sign_up.raw_user_meta_data,
        columns={"confirmation_sent_at": sign_up.created_at},
    )


def _is_repeated(sign_up: Row[Any], request: SignUpRequest) -> bool:
    # Without a password, two requests of one client cannot be distinguished.
    without_password = sign_up.encrypted_password is None and request.password is None
    return without_password and _same_client(sign_up, request)


def _same_client(sign_up: Row[Any], request: SignUpRequest) -> bool:
    return request.ip is not None and str(sign_up.ip) == request.ip
