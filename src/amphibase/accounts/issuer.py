"""Access tokens: the claims are Supabase's, so that tokens survive a move."""

from typing import TYPE_CHECKING, Any

from amphibase.accounts.jwt.claimed_caller import AUDIENCE
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.open_session import OpenSession
from amphibase.backend import Account, Tokens
from amphibase.column_defaults import utc_now

if TYPE_CHECKING:  # the gateway needs none of the application's settings
    from amphibase.settings.application import Settings


class TokenIssuer:
    """Issues tokens for sessions.

    Args:
        settings: `PUBLIC_URL` and `ROUTES_PREFIX` name the issuer; the lifetime too.
    """

    def __init__(self, keys: KeyRing, settings: "Settings") -> None:
        self._keys = keys
        self._name = f"{settings.routes_url}/auth"
        self._lifetime = settings.access_token_lifetime

    def tokens(self, account: Account, session: OpenSession) -> Tokens:
        """Return the tokens of an open session."""
        claims = {**session.claims, **self.claims(account, session)}
        lifetime = int(self._lifetime.total_seconds())
        access_token = self._keys.issue(claims)
        return Tokens(access_token, session.refresh_token, lifetime, claims["exp"])

    def claims(self, account: Account, session: OpenSession) -> dict[str, Any]:
        """Return the claims of an access token that is issued now, without added ones."""
        now = utc_now()
        return {
            "iss": self._name,
            "sub": str(account.id),
            "aud": AUDIENCE,
            "iat": int(now.timestamp()),
            "exp": int((now + self._lifetime).timestamp()),
            "email": account.email,
            "phone": "",
            "role": "authenticated",
            "aal": session.aal,
            "amr": session.amr,
            "session_id": str(session.session_id),
            "app_metadata": dict(account.app_metadata),
            "user_metadata": dict(account.user_metadata),
            "is_anonymous": False,
        }
