"""Sign-up, sign-in, sessions and passwords."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, Protocol
from uuid import UUID

from amphibase.backend.caller import NO_CLAIMS, Caller, Claims
from amphibase.backend.identities import Identities
from amphibase.backend.records import Page
from amphibase.backend.sessions import (
    UNKNOWN_DEVICE,
    Account,
    Device,
    SignedIn,
    UserSession,
)

SignOutScope = Literal["local", "others", "global"]

FOREVER = timedelta(days=365 * 100)
"""How long a ban without an end lasts; Supabase's dashboard does the same."""


class Accounts(Protocol):
    """Sign-up, sign-in, sessions and passwords; and the service's view of accounts."""

    @property
    def identities(self) -> Identities:
        """Sign-in through third parties."""

    async def sign_up(
        self,
        email: str,
        password: str,
        *,
        name: str = "",
        user_metadata: Claims = NO_CLAIMS,
        device: Device = UNKNOWN_DEVICE,
    ) -> SignedIn:
        """Create an account and sign in, or send a confirmation mail where that is required.

        Args:
            user_metadata: what else the account says of the user.

        Raises:
            EmailAlreadyRegistered: unless confirmation is required; then the response is the
                same as for a new address.
            WeakPassword: the password is shorter than `PASSWORD_MIN_LENGTH`, or too long.
            SignUpClosed, EmailDomainNotAllowed: by `SIGN_UP` and `SIGN_UP_DOMAINS`.
        """

    async def accept_invitation(
        self,
        token: str,
        password: str,
        *,
        name: str = "",
        user_metadata: Claims = NO_CLAIMS,
        device: Device = UNKNOWN_DEVICE,
    ) -> SignedIn:
        """Prove the address of an invitation by the token of its email, set a password, sign in.

        Args:
            user_metadata: what else the account says of the user, beside what the invitation says.

        Raises:
            InvalidLink: unknown, used before, or expired.
            WeakPassword: as for a sign-up.
            UserBanned: the account was banned meanwhile.
            SignUpClosed: invitations are not accepted.
        """

    async def sign_in(
        self, email: str, password: str, *, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        """Check the password and open a session.

        Raises:
            InvalidCredentials: unknown address or wrong password; both take the same time.
            EmailNotConfirmed, UserBanned: after the right password only.
        """

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Exchange a refresh token for new tokens; each is good once.

        Raises:
            InvalidRefreshToken: unknown or expired; or used before, which ends the session.
        """

    async def authenticate(self, access_token: str) -> Caller:
        """Return the caller behind an access token.

        Raises:
            InvalidToken: malformed, forged, expired.
            SessionEnded, UserBanned: where `capabilities.instant_revocation` holds.
        """

    async def sign_out(self, caller: Caller, scope: SignOutScope = "local") -> None:
        """End the caller's session, the user's other sessions, or all."""

    async def sessions(self, caller: Caller) -> Sequence[UserSession]:
        """Return where the caller is signed in, newest first."""

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        """End one of the caller's sessions. Raises NotFound when it is not theirs."""

    async def change_password(self, caller: Caller, current: str | None, new: str) -> None:
        """Set a new password and end the caller's other sessions.

        Args:
            current: not needed while the account has no password.

        Raises:
            InvalidCredentials: the current password is wrong.
        """

    async def change_email(self, caller: Caller, current_password: str | None, new: str) -> None:
        """Send links to the new and the current address that change the caller's address.

        Nothing reveals whether another account has the new address: nothing is sent there then.
        An earlier change that is not confirmed is dropped.

        Args:
            current_password: not needed while the account has no password.

        Raises:
            InvalidCredentials: the current password is wrong.
            InvalidRequest: it is the caller's address already.
            EmailDomainNotAllowed: by `SIGN_UP_DOMAINS`.
        """

    async def confirm_email_change(self, caller: Caller, token: str) -> Account | None:
        """Confirm a change of address with the token of one of its links; it signs nobody in.

        The token that was sent to the new address is enough for the user who is signed in; anyone
        else needs both.

        Args:
            caller: anonymous, where the reader of the email is not signed in.

        Returns:
            The account with its new address; None while the other link is awaited.

        Raises:
            InvalidLink: unknown, used before, or expired; or the account has changed since.
            EmailAlreadyRegistered: another account has the address by now.
            UserBanned: the account is banned.
        """

    async def forgot_password(self, email: str) -> None:
        """Send a reset link if the account exists; nothing shows whether it does."""

    async def reset_password(self, token: str, new: str) -> None:
        """Set a new password with the token of a reset link, and end all sessions.

        Raises:
            InvalidLink: unknown, used before, or expired.
        """

    async def verify_email(
        self, token: str, *, password: str | None = None, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        """Confirm the address of a sign-up with the token of its email.

        The password of that sign-up becomes the account's, unless different passwords were
        pending for the address: then the reader is signed in and `password_required`.

        Args:
            password: of the sign-up, where `CONFIRMATION_ASKS_PASSWORD` is set; another one, or
                none, confirms the address and leaves the account without a password.

        Raises:
            InvalidLink: unknown, used before, or expired.
        """

    async def resend_verification(self, email: str, *, device: Device = UNKNOWN_DEVICE) -> None:
        """Send the confirmation again if one is pending; nothing reveals whether it is.

        The sign-up of the same client is renewed; another client's link brings no password.
        """

    # For the service: jobs, scripts, administrators.

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
        """Create an account with these values; without password and hash there is no sign-in yet.

        Args:
            password_hash: bcrypt or argon2, from another system; checked at the first sign-in.

        Raises:
            EmailAlreadyRegistered, Conflict: the address or the id is taken.
            InvalidRequest: a hash of an unknown kind, or both password and hash.
        """

    async def invite(
        self, email: str, *, user_metadata: Claims = NO_CLAIMS, app_metadata: Claims = NO_CLAIMS
    ) -> Account:
        """Make an account that its owner has yet to accept, and send them the invitation.

        Inviting again replaces the earlier link; it lasts a week.

        Raises:
            EmailAlreadyRegistered: another user has confirmed the address.
            SignUpClosed: invitations are not accepted (`SIGN_UP=closed`).
        """

    async def get(self, id: UUID) -> Account | None:
        """Return the account with that id."""

    async def get_by_email(self, email: str) -> Account | None:
        """Return the account with that address, whatever its case."""

    async def list(self, *, cursor: str | None = None, limit: int = 100) -> Page[Account]:
        """Return a page of all accounts, newest first. Raises InvalidCursor."""

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
        """Change the values that are passed; metadata is merged key by key, None removes a key.

        A new password and another `role` in `app_metadata` end all sessions; a new address makes
        links in earlier emails void. Raises NotFound, EmailAlreadyRegistered.
        """

    async def ban(self, id: UUID, duration: timedelta | None) -> Account:
        """Ban for that long, or lift the ban with None; a ban ends all sessions."""

    async def delete(self, id: UUID) -> bool:
        """Delete the account with its sessions; return whether it existed."""
