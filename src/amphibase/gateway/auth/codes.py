"""What letters hold: a code of digits to type, and the token of a link to follow.

Both are one secret: the token is derived from the code, the user and a key that only the server
has, so that either finds the same row of `one_time_tokens`, which keeps the token's hash alone.
Whoever reads the table learns neither.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from amphibase.accounts.one_time_tokens import Kind, Links
from amphibase.gateway.auth.errors import AuthError

PKCE_PREFIX = "pkce_"
EMAIL_CHANGE: tuple[Kind, Kind] = ("email_change_token_current", "email_change_token_new")
MAX_WRONG, WRONG_SECONDS = 20, 3600
"""A million codes of six digits cannot be tried at this pace."""

WRONG = ("otp_expired", "reauthentication_not_valid", "mfa_verification_failed")
"""What a wrong code is refused with."""

MAX_COUNTED = 10_000
"""Whoever wants a count to be forgotten has to guess as often elsewhere."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What one letter holds.

    Args:
        code: digits.
        token: of the link.
    """

    code: str = field(repr=False)
    token: str = field(repr=False)


class Codes:
    """Issues and redeems codes; every method runs in the transaction it is handed.

    Args:
        secret: 32 bytes that tokens are derived with.
        length: how many digits a code has.
    """

    def __init__(self, links: Links, secret: bytes, length: int) -> None:
        self._links = links
        self._secret = secret
        self._length = length

    async def issue(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        kind: Kind,
        email: str,
        *,
        pkce: bool = False,
    ) -> Secret:
        """A new code; an earlier one of the same kind is void from now on.

        Args:
            email: where the letter goes.
            pkce: whether following the link gives a code to exchange instead of a session.
        """
        code = "".join(secrets.choice("0123456789") for _ in range(self._length))
        token = (PKCE_PREFIX if pkce else "") + self._token(user_id, kind, code)
        await self._links.issue(connection, user_id, kind, email, token)
        return Secret(code, token)

    async def revoke(self, connection: AsyncConnection, user_id: UUID, *kinds: Kind) -> None:
        """Make the user's codes of these kinds void."""
        await self._links.revoke(connection, user_id, *kinds)

    async def redeem_code(
        self, connection: AsyncConnection, user_id: UUID, code: str, *kinds: Kind
    ) -> Kind | None:
        """Which of the kinds the code is of, and no second time; None when it is not good."""
        for kind in kinds:
            token = self._token(user_id, kind, code)
            for form in (token, PKCE_PREFIX + token):
                if await self._links.redeem(connection, form, kind):
                    return kind
        return None

    async def redeem_token(
        self, connection: AsyncConnection, token: str, *kinds: Kind
    ) -> tuple[UUID, Kind] | None:
        """Whose and of which kind the token of a link is, and no second time."""
        for kind in kinds:
            if user_id := await self._links.redeem(connection, token, kind):
                return user_id, kind
        return None

    def _token(self, user_id: UUID, kind: Kind, code: str) -> str:
        content = f"{user_id} {kind} {code}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, content, "sha224").hexdigest()


class Guesses:
    """Counts codes by what they are meant for, and stops who tries them, one by one or many at
    once: each counts as wrong until it has turned out right."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    @contextmanager
    def counting(self, what: str) -> Iterator[None]:
        """Try a code inside; it counts unless it is right or something else is refused.

        Raises:
            AuthError: there were too many wrong ones in the last hour.
        """
        now = monotonic()
        recent = [moment for moment in self._wrong.get(what, ()) if moment > now - WRONG_SECONDS]
        if len(recent) >= MAX_WRONG:
            raise AuthError(429, "over_request_rate_limit", "Request rate limit reached")
        self._wrong[what] = [*recent, now]
        self._wrong.move_to_end(what)
        if len(self._wrong) > MAX_COUNTED:
            self._wrong.popitem(last=False)
        is_wrong = False
        try:
            yield
        except AuthError as error:
            is_wrong = error.code in WRONG
            raise
        finally:
            if not is_wrong and now in self._wrong.get(what, ()):
                self._wrong[what].remove(now)
