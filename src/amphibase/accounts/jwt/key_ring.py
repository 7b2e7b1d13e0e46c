"""The key ring: issues and verifies JSON Web Tokens, publishes public keys, derives secrets.

The first key signs, all verify.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from amphibase.accounts.jwt.claimed_caller import AUDIENCE
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_file import KEY_FILE, read_key_file, write_key_file
from amphibase.accounts.jwt.verifier import TokenVerifier
from amphibase.column_defaults import utc_now
from amphibase.errors import ConfigurationError
from amphibase.settings.published_secrets import is_published_jwk

if TYPE_CHECKING:  # the gateway needs none of the application's settings
    from amphibase.settings.application import Settings


class KeyRing(TokenVerifier):
    """The keys of one application or project.

    Args:
        keys: at least one; the first signs users' tokens. The same key twice counts once.
        published: those whose public halves everybody may read; all by default.
        root: what other secrets are derived from; the first key by default. One that stays while
            the others are rotated keeps what these secrets protect, such as refresh tokens.
    """

    def __init__(
        self,
        keys: Iterable[Key],
        *,
        published: Iterable[Key] | None = None,
        root: Key | None = None,
    ) -> None:
        super().__init__({id(key): key for key in keys}.values())
        self._published = self._keys if published is None else tuple(published)
        self._root = root or self._keys[0]

    def issue(self, claims: Mapping[str, Any]) -> str:
        """Sign the claims with the first key."""
        return self._keys[0].sign(claims)

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JSON Web Key Set (RFC 7517), without shared secrets."""
        return {"keys": [key.public_jwk() for key in self._published if not key.is_secret]}

    def derive(self, purpose: str) -> bytes:
        """Derive a secret of 32 bytes for one purpose, from the root."""
        return self._root.derive(purpose)

    def derived(self, purpose: str) -> "KeyRing":
        """Return a ring of one derived secret, whose tokens are of use for one purpose only."""
        return KeyRing([Key.from_secret(self.derive(purpose))])


def load_keys(settings: "Settings") -> KeyRing:
    """Load the key ring that the settings name; development generates a key in DATA_DIR.

    Raises:
        ConfigurationError: the key file cannot be read, holds no usable key, or in production a
            published one.
    """
    if settings.jwt_key_file:
        keys = read_key_file(settings.jwt_key_file)
        if settings.environment == "production" and any(
            is_published_jwk(key.public_jwk()) for key in keys
        ):
            raise ConfigurationError(
                "JWT_KEY_FILE: holds a key of the Supabase CLI, which everybody has; production "
                "needs its own (amphibase keys generate)"
            )
        return KeyRing(keys)
    if settings.secret_key:
        return KeyRing([Key.from_secret(settings.secret_key.get_secret_value())])
    path = settings.data_dir / KEY_FILE
    if not path.exists():
        write_key_file(path, [Key.generate()], overwrite=False)
    return KeyRing(read_key_file(path))


def create_access_token(
    claims: Mapping[str, Any],
    expires_in: timedelta | None = None,
    *,
    settings: "Settings | None" = None,
) -> str:
    """Issue an access token for routes and sign-in flows of one's own.

    It belongs to no session: it is good until it expires, unless the user is banned or deleted.

    Args:
        claims: `sub`, the user's id, and whatever else; audience, role and times are filled in.
        expires_in: its lifetime; ACCESS_TOKEN_MINUTES by default.
        settings: read from the environment and `.env` by default.
    """
    if settings is None:
        from amphibase.settings.application import load_settings

        settings = load_settings()
    now = utc_now()
    expires = now + (expires_in or settings.access_token_lifetime)
    defaults = {"aud": AUDIENCE, "role": "authenticated", "iat": int(now.timestamp())}
    return load_keys(settings).issue({**defaults, **claims, "exp": int(expires.timestamp())})
