"""Hooks: what an application decides and does when users sign up and when tokens are issued."""

from dataclasses import dataclass
from typing import Protocol

from amphibase.backend.caller import Claims
from amphibase.backend.sessions import Account, Device
from amphibase.backend.transaction import Transaction

RESERVED_CLAIMS = frozenset({
    "iss", "sub", "aud", "exp", "nbf", "iat", "jti",  # RFC 7519, section 4.1
    "azp", "scope", "client_id",  # OpenID Connect; RFC 8693, section 4
    "email", "phone", "role", "aal", "amr", "session_id", "is_anonymous",
    "app_metadata", "user_metadata",
})  # fmt: skip
"""The claims that no hook sets: those that the token is checked by, and Supabase's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpAttempt:
    """A sign-up before anything of it is stored.

    Args:
        email: in lower case; proven by an invitation or a third party alone.
        user_metadata: the name, and the columns that the profile's own class adds, as JSON.
        invited: whether an invitation is accepted.
        device: the client.
    """

    email: str
    user_metadata: Claims
    invited: bool
    device: Device


class AccountHooks(Protocol):
    """What a backend calls; each error that a hook raises ends what it was called for."""

    @property
    def adds_claims(self) -> bool:
        """Whether `before_token` is of any use, so that no transaction is begun for nothing."""

    async def before_sign_up(self, attempt: SignUpAttempt) -> None:
        """Decide on a sign-up or the acceptance of an invitation; raise to reject it.

        It runs in no transaction, and before anything is read that depends on the address.
        """

    async def after_sign_up(self, account: Account, transaction: Transaction) -> None:
        """Add what belongs to a new account, in the transaction that creates it.

        Args:
            transaction: of the records, as the service.
        """

    async def before_token(
        self, account: Account, claims: Claims, transaction: Transaction
    ) -> Claims:
        """Return the claims to add to an access token.

        Args:
            claims: of the token so far.
            transaction: of the records, as the service; the one that opens or refreshes the
                session, where the backend can.

        Raises:
            HookError: a hook returned a reserved claim, or one that JSON cannot hold.
        """
