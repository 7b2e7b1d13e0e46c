"""How users sign in: their identities, and sign-in through third parties (OAuth 2.0, OpenID
Connect)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from amphibase.backend.caller import Caller
from amphibase.backend.sessions import UNKNOWN_DEVICE, Device, SignedIn


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdentity:
    """One way in which a user signs in.

    Args:
        provider: `email`, or the name of a third party.
        email: the address that the provider names, whether or not it is the account's.
    """

    id: UUID
    provider: str
    email: str | None
    created_at: datetime
    last_sign_in_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthRequest:
    """What a client asks of a sign-in at a third party.

    Args:
        redirect_to: where the browser comes back to, one of `OAUTH_REDIRECT_URLS`; None for the
            first of them.
        code_challenge: of the verifier that the client keeps, by S256 (RFC 7636, section 4.2).
    """

    provider: str
    redirect_to: str | None
    code_challenge: str


@dataclass(frozen=True, slots=True)
class BrowserRedirect:
    """Where a browser goes to sign in, and what it keeps until it comes back.

    Args:
        secret: for a cookie; who comes back without it is another browser.
        posts_back: whether the third party sends it back by a form of its own site.
    """

    url: str
    secret: str = field(repr=False)
    posts_back: bool


class Identities(Protocol):
    """Sign-in through third parties, and what a user signs in with.

    A client begins with a challenge (PKCE), the browser goes to the third party and comes back to
    the client with a code, and the client exchanges code and verifier. On SQL, no account is
    added, linked or signed in until then; a Supabase project adds and links when the browser comes
    back, and does not check that it is the one that began.
    """

    async def begin(self, caller: Caller, request: OAuthRequest) -> str:
        """Return the URL that the browser goes to.

        Args:
            caller: the user whom the identity is to be linked to; anonymous to sign in.

        Raises:
            NotFound: the third party is not enabled.
            InvalidRequest: the browser may not be sent to `redirect_to`.
        """

    async def authorize(self, provider: str, state: str) -> BrowserRedirect:
        """Return where the browser of a sign-in that has begun goes to sign in.

        Raises:
            InvalidLink: there is no such sign-in, or it began too long ago.
            Unavailable: the third party cannot be reached.
        """

    async def receive(self, provider: str, response: Mapping[str, str], secret: str) -> str:
        """Take what the browser brings back from a third party.

        Args:
            response: the authorization response (RFC 6749, section 4.1.2).
            secret: that of `authorize`.

        Returns:
            Where the browser goes next: the client's URL, with `code`, or with `error` and
            `error_description`.
        """

    async def sign_in(
        self, code: str, code_verifier: str, *, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        """Exchange a code for a session; a new user is added as by a sign-up.

        Raises:
            InvalidLink: the code is unknown, used or expired, or the verifier is another.
            EmailNotConfirmed: the third party has not verified the address of a new user.
            IdentityNotLinked: another account has the address, which nobody has proven there.
            SignUpClosed, EmailDomainNotAllowed: by `SIGN_UP` and `SIGN_UP_DOMAINS`.
            UserBanned: the account is banned.
        """

    async def link(self, caller: Caller, code: str, code_verifier: str) -> UserIdentity:
        """Exchange a code for one more identity of the caller, who began that.

        Raises:
            InvalidLink: as of `sign_in`, or another user has begun it.
            Conflict: the identity belongs to an account already.
        """

    async def list(self, caller: Caller) -> Sequence[UserIdentity]:
        """Return how the caller signs in, oldest first."""

    async def unlink(self, caller: Caller, id: UUID) -> None:
        """Remove an identity at a third party.

        Raises:
            NotFound: the caller has no such identity.
            Conflict: the caller would have no way to sign in.
        """
