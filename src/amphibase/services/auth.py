"""Signing up and in: accounts and profiles together."""

from dataclasses import dataclass
from typing import Generic

from amphibase.backend import (
    NO_CLAIMS,
    UNKNOWN_DEVICE,
    Accounts,
    Claims,
    Device,
    SignedIn,
    Tokens,
)
from amphibase.services.users import Profile, UserService


@dataclass(frozen=True, slots=True)
class AuthResult(Generic[Profile]):
    """A user with their tokens; without them while the address awaits confirmation."""

    user: Profile
    tokens: Tokens | None


class AuthenticationService(Generic[Profile]):
    """Signing up and in, with the profile created and synchronised."""

    def __init__(self, accounts: Accounts, users: UserService[Profile]) -> None:
        self._accounts = accounts
        self._users = users

    async def sign_up(
        self,
        email: str,
        password: str,
        *,
        name: str = "",
        user_metadata: Claims = NO_CLAIMS,
        device: Device = UNKNOWN_DEVICE,
    ) -> AuthResult[Profile]:
        """Make an account and its profile; see `Accounts.sign_up`."""
        signed_in = await self._accounts.sign_up(
            email, password, name=name, user_metadata=user_metadata, device=device
        )
        if signed_in.tokens is None:
            # Nothing is stored yet: a profile would reveal whether an address is taken. It is
            # created at the first sign-in.
            return AuthResult(self._users.preview(signed_in.account), None)
        return await self._result(signed_in)

    async def accept_invitation(
        self,
        token: str,
        password: str,
        *,
        name: str = "",
        user_metadata: Claims = NO_CLAIMS,
        device: Device = UNKNOWN_DEVICE,
    ) -> AuthResult[Profile]:
        """Accept an invitation; see `Accounts.accept_invitation`."""
        return await self._result(
            await self._accounts.accept_invitation(
                token, password, name=name, user_metadata=user_metadata, device=device
            )
        )

    async def sign_in(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE
    ) -> AuthResult[Profile]:
        """Open a session; see `Accounts.sign_in`."""
        return await self._result(await self._accounts.sign_in(email, password, device=device))

    async def redeem(
        self, code: str, code_verifier: str, *, device: Device = UNKNOWN_DEVICE
    ) -> AuthResult[Profile]:
        """Open a session by the code of a sign-in at a third party; see `Identities.sign_in`."""
        signed_in = await self._accounts.identities.sign_in(code, code_verifier, device=device)
        return await self._result(signed_in)

    async def refresh(self, refresh_token: str) -> AuthResult[Profile]:
        """Continue a session; see `Accounts.refresh`."""
        return await self._result(await self._accounts.refresh(refresh_token))

    async def _result(self, signed_in: SignedIn) -> AuthResult[Profile]:
        return AuthResult(await self._users.of(signed_in.account), signed_in.tokens)
