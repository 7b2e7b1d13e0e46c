"""Access tokens: the claims are Supabase's, so that tokens survive a move."""

from amphibase.accounts.jwt.claimed_caller import AUDIENCE
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.sessions import OpenSession
from amphibase.backend import Account, Tokens
from amphibase.models import utc_now
from amphibase.settings import Settings


class TokenIssuer:
    """Issues tokens for sessions.

    Args:
        settings: `PUBLIC_URL` and `ROUTES_PREFIX` name the issuer; the lifetime too.
    """

    def __init__(self, keys: KeyRing, settings: Settings) -> None:
        self._keys = keys
        self._name = f"{settings.routes_url}/auth"
        self._lifetime = settings.access_token_lifetime

    def tokens(self, account: Account, opened: OpenSession) -> Tokens:
        """Return the tokens of an open session."""
        now = utc_now()
        expires_at = int((now + self._lifetime).timestamp())
        claims = {
            "iss": self._name,
            "sub": str(account.id),
            "aud": AUDIENCE,
            "iat": int(now.timestamp()),
            "exp": expires_at,
            "email": account.email,
            "phone": "",
            "role": "authenticated",
            "aal": opened.aal,
            "amr": opened.amr,
            "session_id": str(opened.session_id),
            "app_metadata": dict(account.app_metadata),
            "user_metadata": dict(account.user_metadata),
            "is_anonymous": False,
        }
        lifetime = int(self._lifetime.total_seconds())
        return Tokens(self._keys.issue(claims), opened.refresh_token, lifetime, expires_at)
