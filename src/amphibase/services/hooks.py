"""The hooks of an application: its functions, called with a time limit and checked."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from amphibase.backend import Account, Claims, SignUpAttempt, Transaction
from amphibase.backend.hooks import RESERVED_CLAIMS
from amphibase.errors import ConfigurationError, HookError, HookTimeout
from amphibase.redaction import redacted_logger
from amphibase.services.users import UserService

logger = redacted_logger("amphibase.hooks")

BeforeSignUp = Callable[[SignUpAttempt], Awaitable[None]]
AfterSignUp = Callable[[Account, Transaction], Awaitable[None]]
BeforeToken = Callable[[Account, Claims, Transaction], Awaitable[Mapping[str, Any] | None]]

Hook = TypeVar("Hook", bound=Callable[..., Awaitable[Any]])
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class HookFunctions:
    """The functions that an application has registered, each list in the order of registration."""

    before_sign_up: list[BeforeSignUp] = field(default_factory=list)
    after_sign_up: list[AfterSignUp] = field(default_factory=list)
    before_token: list[BeforeToken] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether any function is registered."""
        return bool(self.before_sign_up or self.after_sign_up or self.before_token)


def require_async(function: Callable[..., Any]) -> None:
    """Check that a hook can be awaited. Raises ConfigurationError."""
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{_name(function)} is a hook: define it with `async def`")


class ApplicationHooks:
    """Runs the functions of an application as the hooks of its accounts.

    Args:
        users: makes the profile of a new account, before `after_sign_up`.
        timeout: of each function, in seconds.
    """

    def __init__(
        self, functions: HookFunctions, users: UserService[Any], *, timeout: float
    ) -> None:
        self._functions = functions
        self._users = users
        self._timeout = timeout

    @property
    def adds_claims(self) -> bool:
        return bool(self._functions.before_token)

    async def before_sign_up(self, attempt: SignUpAttempt) -> None:
        for function in self._functions.before_sign_up:
            await self._limited(function, function(attempt))

    async def after_sign_up(self, account: Account, transaction: Transaction) -> None:
        await self._users.create_profile(account, transaction)
        for function in self._functions.after_sign_up:
            await self._limited(function, function(account, transaction))

    async def before_token(
        self, account: Account, claims: Claims, transaction: Transaction
    ) -> Claims:
        added: dict[str, Any] = {}
        for function in self._functions.before_token:
            call = function(account, {**claims, **added}, transaction)
            result = await self._limited(function, call)
            _check_claims(function, result)
            added.update(result or {})
        return added

    async def _limited(self, function: Callable[..., Any], call: Awaitable[Result]) -> Result:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                return await call
        except TimeoutError as error:
            if not limit.expired():
                raise
            logger.warning("The hook %s took longer than %g s", _name(function), self._timeout)
            raise HookTimeout from error


def _check_claims(function: Callable[..., Any], claims: object) -> None:
    if claims is None:
        return
    name = _name(function)
    if not isinstance(claims, Mapping) or not all(isinstance(key, str) for key in claims):
        raise HookError(f"{name} returned a {type(claims).__name__}: return a dict of claims")
    if reserved := RESERVED_CLAIMS & claims.keys():
        raise HookError(
            f"{name} returned {', '.join(sorted(reserved))}: no hook sets the claims that "
            "Amphibase and Supabase set; choose other names"
        )
    try:
        json.dumps(dict(claims), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise HookError(f"{name} returned a claim that JSON cannot hold: {error}") from None


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"
