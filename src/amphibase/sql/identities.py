"""Sign-in through third parties on one's own database: the contract of `backend.Identities`."""

import base64
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from uuid import UUID

import orjson
from cryptography.fernet import Fernet, InvalidToken
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import Row

from amphibase.accounts.engine import AccountEngine
from amphibase.accounts.external_identities import ExternalIdentities, ExternalIdentity
from amphibase.accounts.issuer import TokenIssuer
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.accounts.jwt.verifier import TokenRejected
from amphibase.accounts.oauth.flows import EXTERNAL, Challenge, PkceFlows
from amphibase.accounts.sign_up_policy import SignUpPolicy
from amphibase.accounts.user_states import awaits_invitation
from amphibase.accounts.users import account_of
from amphibase.backend import (
    UNKNOWN_DEVICE,
    Account,
    BrowserRedirect,
    Caller,
    Device,
    OAuthRequest,
    SignedIn,
    SignUpAttempt,
    UserIdentity,
)
from amphibase.database.sql_connection import SqlConnection
from amphibase.errors import (
    ConfigurationError,
    Contention,
    EmailNotConfirmed,
    InvalidLink,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from amphibase.models import utc_now, uuid7
from amphibase.redaction import redacted_logger
from amphibase.schema.tables import Tables
from amphibase.settings.application import Settings

if TYPE_CHECKING:  # few applications have any
    from amphibase.accounts.oauth.providers import FlowSecrets, Provider

logger = redacted_logger("amphibase.accounts")

BeforeSignUp = Callable[[SignUpAttempt], Awaitable[None]]
AfterSignUp = Callable[[SqlConnection, Account], Awaitable[None]]

_ERROR = re.compile(r"[a-z_]{1,50}")
"""The codes of RFC 6749, section 4.1.2.1, and of OpenID Connect."""


class SqlIdentities:
    """Signs users in through third parties.

    What the third party says waits, encrypted, beside the hash of the client's code: nothing is
    added, linked or signed in before the client has shown its verifier.

    Args:
        before_sign_up, after_sign_up: as of `AccountHooks`.

    Raises:
        ConfigurationError: a third party cannot be used as it is configured.
    """

    def __init__(
        self,
        engine: AccountEngine,
        tables: Tables,
        keys: KeyRing,
        issuer: TokenIssuer,
        sign_up_policy: SignUpPolicy,
        settings: Settings,
        before_sign_up: BeforeSignUp,
        after_sign_up: AfterSignUp,
    ) -> None:
        self._engine = engine
        self._database = engine.database
        self._users = engine.users
        self._external = ExternalIdentities(engine, tables, links_unproven=False, copies_data=False)
        self._flows = PkceFlows(tables)
        self._issuer = issuer
        self._sign_up_policy = sign_up_policy
        self._settings = settings
        self._before_sign_up = before_sign_up
        self._after_sign_up = after_sign_up
        self._flow_key = keys.derive("external flow")
        self._fernet = Fernet(base64.urlsafe_b64encode(keys.derive("external identity")))
        self._providers = {name: _build(name, settings) for name in settings.oauth_providers()}

    # To the third party and back

    async def begin(self, caller: Caller, request: OAuthRequest) -> str:
        self._provider(request.provider)
        redirect_to = self._settings.oauth_redirect_url(request.redirect_to)
        async with self._database.write() as connection:
            state = await self._flows.begin_external(
                connection,
                request.provider,
                Challenge(request.code_challenge, "s256"),
                redirect_to,
                caller.user_id,
            )
        return f"{self._url(request.provider)}/authorize?{urlencode({'state': state})}"

    async def authorize(self, provider: str, state: str) -> BrowserRedirect:
        from amphibase.accounts.oauth.http import ProviderError

        third_party = self._provider(provider)
        async with self._database.read() as connection:
            if not await self._flows.has_external(connection, provider, state):
                raise InvalidLink("This sign-in is not valid any more; begin again")
        secrets = self._secrets(state)
        try:
            url = await third_party.authorization_url(
                self._redirect_uri(provider), state, secrets, (), {}
            )
        except ProviderError as error:
            logger.error("Sign-in with %s failed: %s", provider, error)
            raise Unavailable(f"{provider} cannot be reached just now") from None
        return BrowserRedirect(url, secrets.browser, third_party.posts_back)

    async def receive(self, provider: str, response: Mapping[str, str], secret: str) -> str:
        state = response.get("state", "")
        flow = await self._end(provider, state, secret)
        if flow is None:
            url = self._settings.oauth_redirect_url(None)
            return _with_error(url, "invalid_request", "The sign-in was not begun here, or is over")
        if not response.get("code"):
            error = response.get("error", "")
            name = error if _ERROR.fullmatch(error) else "server_error"
            return _with_error(flow.referrer, name, f"{provider} did not sign you in")
        identity = await self._exchange(provider, response, self._secrets(state))
        if identity is None:
            return _with_error(
                flow.referrer, "server_error", f"{provider} does not say who you are"
            )
        async with self._database.write() as connection:
            code = await self._flows.issue_code(
                connection,
                flow.linking_target_id,
                EXTERNAL,
                Challenge(flow.code_challenge, flow.code_challenge_method),
                provider=provider,
                linking_target_id=flow.linking_target_id,
                provider_access_token=self._sealed(identity),
            )
        return _with_query(flow.referrer, {"code": code})

    async def _end(self, provider: str, state: str, secret: str) -> Row[Any] | None:
        """Use a state up; None unless this browser went to that third party with it."""
        if not hmac.compare_digest(self._secrets(state).browser.encode(), secret.encode()):
            return None
        try:
            async with self._database.write() as connection:
                flow = await self._flows.end_external(connection, state)
        except InvalidLink:
            return None
        # The list of allowed URLs may have changed.
        is_allowed = flow.referrer in self._settings.oauth_redirect_urls
        return flow if flow.provider_type == provider and is_allowed else None

    async def _exchange(
        self, provider: str, response: Mapping[str, str], secrets: "FlowSecrets"
    ) -> ExternalIdentity | None:
        from amphibase.accounts.oauth.http import ProviderError

        try:
            identity, _ = await self._provider(provider).exchange(
                response, self._redirect_uri(provider), secrets
            )
        except (ProviderError, TokenRejected) as error:
            reason = getattr(error, "reason", error)
            logger.error("Sign-in with %s failed: %s", provider, reason)
            return None
        return _with_valid_address(identity)

    # From the code to a session

    async def sign_in(
        self, code: str, code_verifier: str, *, device: Device = UNKNOWN_DEVICE
    ) -> SignedIn:
        async with self._database.read() as connection:
            flow = await self._flows.find(connection, code, code_verifier)
            identity = self._unsealed(flow)
            owner = await self._external.owner(connection, identity)
        if flow.linking_target_id is not None:
            raise InvalidLink
        joins = _joins(owner)
        if joins:
            await self._check_sign_up(identity, owner, device)
        async with self._database.write() as connection:
            await self._flows.redeem(connection, code, code_verifier)
            now_joins = _joins(await self._external.owner(connection, identity, lock=True))
            if now_joins and not joins:
                raise Contention  # the account was deleted since; a new one has to be decided on
            signed_in = await self._external.sign_in(connection, identity)
            if signed_in is not None:
                user = signed_in.user
            else:
                user = await self._external.add_user(
                    connection, identity, id=uuid7(), accepts_unverified=False
                )
            await self._users.change(connection, user.id, last_sign_in_at=utc_now())
            user = await self._users.get(connection, user.id)
            account = account_of(user)
            if now_joins:
                await self._after_sign_up(connection, account)
            session = await self._engine.open_session(connection, user, device, EXTERNAL)
        return SignedIn(account, self._issuer.tokens(account, session))

    async def _check_sign_up(
        self, identity: ExternalIdentity, owner: Row[Any] | None, device: Device
    ) -> None:
        """Decide whether a user may be added, or accept the invitation of the address."""
        if identity.email is None or not identity.is_verified:
            raise EmailNotConfirmed(
                f"{identity.provider} has not verified your address: verify it there first"
            )
        if owner is None:
            self._sign_up_policy.check(identity.email)
        else:
            self._sign_up_policy.check_invitation()
        await self._before_sign_up(
            SignUpAttempt(
                email=identity.email,
                user_metadata=identity.data,
                invited=owner is not None,
                device=device,
            )
        )

    # A user's identities

    async def link(self, caller: Caller, code: str, code_verifier: str) -> UserIdentity:
        user_id = _user_id(caller)
        async with self._database.write() as connection:
            flow = await self._flows.redeem(connection, code, code_verifier)
            if flow.linking_target_id != user_id:
                raise InvalidLink
            identity = self._unsealed(flow)
            await self._external.link(connection, user_id, identity)
            rows = await self._users.identities(connection, user_id)
        return next(
            _identity_of(row)
            for row in rows
            if (row.provider, row.provider_id) == (identity.provider, identity.subject)
        )

    async def list(self, caller: Caller) -> Sequence[UserIdentity]:
        async with self._database.read() as connection:
            rows = await self._users.identities(connection, _user_id(caller))
        return [_identity_of(row) for row in rows]

    async def unlink(self, caller: Caller, id: UUID) -> None:
        async with self._database.write() as connection:
            user = await self._users.get(connection, _user_id(caller), lock=True)
            await self._external.unlink(connection, user, id)

    def _provider(self, name: str) -> "Provider":
        provider = self._providers.get(name)
        if provider is None:
            raise NotFound(f"Sign-in through {name!r} is not set up")
        return provider

    def _secrets(self, state: str) -> "FlowSecrets":
        from amphibase.accounts.oauth.providers import FlowSecrets

        return FlowSecrets(self._flow_key, state)

    def _url(self, provider: str) -> str:
        return f"{self._settings.routes_url}/auth/oauth/{quote(provider, safe='')}"

    def _redirect_uri(self, provider: str) -> str:
        # One for each provider: whoever mixes two up is noticed (RFC 9700, section 4.4).
        return f"{self._url(provider)}/callback"

    def _sealed(self, identity: ExternalIdentity) -> str:
        return self._fernet.encrypt(orjson.dumps(asdict(identity))).decode()

    def _unsealed(self, flow: Row[Any]) -> ExternalIdentity:
        try:
            content = self._fernet.decrypt(flow.provider_access_token.encode())
        except InvalidToken:  # the key has changed since
            raise InvalidLink from None
        return ExternalIdentity(**orjson.loads(content))


def _build(name: str, settings: Settings) -> "Provider":
    try:
        from amphibase.accounts.oauth.providers import build_provider
    except ImportError:
        raise ConfigurationError(
            f"OAUTH_{name.upper()}_CLIENT_ID: needs a client: pip install 'amphibase[oauth]'"
        ) from None
    registered = settings.oauth_provider(name)
    assert registered is not None
    return build_provider(name, registered)


def _with_valid_address(identity: ExternalIdentity) -> ExternalIdentity:
    """Return the identity with its address as a sign-up stores it; without one that none takes."""
    try:
        email = validate_email(identity.email or "", check_deliverability=False).normalized
    except EmailNotValidError:
        return replace(identity, email=None, is_verified=False)
    return replace(identity, email=email.lower())


def _joins(owner: Row[Any] | None) -> bool:
    """Return whether a sign-in adds a user, or accepts the invitation of one."""
    return owner is None or awaits_invitation(owner)


def _identity_of(row: Row[Any]) -> UserIdentity:
    return UserIdentity(
        id=row.id,
        provider=row.provider,
        email=row.email,
        created_at=row.created_at,
        last_sign_in_at=row.last_sign_in_at,
    )


def _user_id(caller: Caller) -> UUID:
    if caller.user_id is None:
        raise Unauthenticated
    return caller.user_id


def _with_error(url: str, error: str, description: str) -> str:
    return _with_query(url, {"error": error, "error_description": description})


def _with_query(url: str, fields: Mapping[str, str]) -> str:
    # By hand, since to take a URL apart and write it anew makes `app:` of `app://`.
    return f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"
