"""Who is behind a token of a Supabase project: by its signature, or by asking the project."""

import asyncio
import re
from time import monotonic
from typing import Any, Protocol

import jwt

from amphibase.accounts.jwt.claimed_caller import caller_of_claims, claimed_caller
from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_file import parse_jwks
from amphibase.accounts.jwt.verifier import (
    MAX_TOKEN_BYTES,
    TokenFault,
    TokenRejected,
    TokenVerifier,
)
from amphibase.backend import ANONYMOUS, Caller
from amphibase.errors import (
    AmphibaseError,
    ConfigurationError,
    InvalidToken,
    NotFound,
    SessionEnded,
)
from amphibase.redaction import redacted_logger
from amphibase.supabase.auth_database import AuthDatabase
from amphibase.supabase.client import SupabaseClient
from amphibase.supabase.errors import read_json

logger = redacted_logger("amphibase.supabase")

MAX_AGE_SECONDS = 600
"""How long fetched keys are used before they are fetched again; the max-age that Auth sends."""

MIN_INTERVAL_SECONDS = 10
"""Between two fetches, so that tokens with made-up key ids do not become requests."""

JWKS_PATH = "/.well-known/jwks.json"
TOKEN_PATTERN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)


class ProjectTokenCheck(Protocol):
    """Returns the caller behind a token."""

    async def admit(self, access_token: str) -> Caller:
        """Return the caller of a token that is valid.

        Raises:
            InvalidToken: malformed, forged or expired.
            SessionEnded, UserBanned: where the project is asked.
        """

    async def start(self) -> None:
        """Get ready, so that no request has to wait. Raises Unavailable."""


class LocalTokenCheck:
    """Verifies tokens with the project's keys: no request for a token.

    The keys are the shared secret, where it is known, and the project's key set, which is fetched
    at start, when it is ten minutes old, and when a token names a key that is not in it.
    """

    def __init__(self, client: SupabaseClient) -> None:
        self._client = client
        secret = client.project.jwt_secret
        self._shared = [Key.from_secret(secret)] if secret else []
        self._verifier = TokenVerifier(self._shared)
        self._kids: frozenset[str | None] = frozenset()
        self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch the keys.

        Raises:
            ConfigurationError: the project publishes none, and its shared secret is not known.
            Unavailable: the project cannot be reached.
        """
        await self._fetch()
        if not (self._shared or self._kids):
            raise ConfigurationError(
                "SUPABASE_JWT_SECRET: the project signs tokens with a shared secret, which is in "
                "its dashboard under Settings, JWT keys; set it, or VERIFY=remote"
            )

    async def admit(self, access_token: str) -> Caller:
        if monotonic() - self._tried > MAX_AGE_SECONDS and self._kids:
            self._refresh()  # goes on meanwhile: the old keys are good until then
        try:
            return claimed_caller(self._verifier, access_token)
        except TokenRejected as error:
            if error.fault not in (TokenFault.KEY, TokenFault.ALGORITHM):
                raise
            if not _names_key(access_token) or monotonic() - self._tried < MIN_INTERVAL_SECONDS:
                raise
        await asyncio.shield(self._refresh())
        return claimed_caller(self._verifier, access_token)

    def _refresh(self) -> "asyncio.Task[None]":
        """Fetch the keys once, however many wait for them."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch_or_keep())
        return self._fetching

    async def _fetch_or_keep(self) -> None:
        try:
            await self._fetch()
        except AmphibaseError as error:
            logger.warning("The project's keys could not be fetched: %s", error)

    async def _fetch(self) -> None:
        self._tried = monotonic()
        response = await self._client.request("auth", "GET", JWKS_PATH, ANONYMOUS)
        keys = _public_keys(read_json(response))
        kids = frozenset(key.kid for key in keys)
        if kids != self._kids:
            self._kids = kids
            self._verifier = TokenVerifier([*self._shared, *keys])


class DatabaseTokenCheck(LocalTokenCheck):
    """Verifies tokens with the project's keys, and reads from its database whether they hold."""

    def __init__(self, client: SupabaseClient, database: AuthDatabase) -> None:
        super().__init__(client)
        self._database = database

    async def admit(self, access_token: str) -> Caller:
        return await self._database.admit(await super().admit(access_token))


class RemoteTokenCheck:
    """Lets the project verify each token: a request for each, and revocation holds at once."""

    def __init__(self, client: SupabaseClient) -> None:
        self._client = client

    async def start(self) -> None:
        """Do nothing: nothing is needed."""

    async def admit(self, access_token: str) -> Caller:
        if len(access_token) > MAX_TOKEN_BYTES or not TOKEN_PATTERN.fullmatch(access_token):
            raise InvalidToken
        try:
            claims = jwt.decode(access_token, options={"verify_signature": False})
        except (jwt.PyJWTError, RecursionError):
            raise InvalidToken from None
        caller = caller_of_claims(claims, access_token)
        try:
            response = await self._client.request("auth", "GET", "/user", caller)
        except NotFound:
            raise SessionEnded from None
        if read_json(response).get("id") != str(caller.user_id):
            raise InvalidToken
        return caller


def _public_keys(jwks: Any) -> list[Key]:
    """Return the public keys of a set. A secret that a set publishes is none."""
    try:
        return [key for key in parse_jwks(jwks) if not key.is_secret]
    except ValueError:
        return []


def _names_key(access_token: str) -> bool:
    """Return whether a token could be of a key that is in a key set."""
    try:
        header = jwt.get_unverified_header(access_token)
    except jwt.PyJWTError:
        return False
    return isinstance(header.get("kid"), str) and not str(header.get("alg")).startswith("HS")
