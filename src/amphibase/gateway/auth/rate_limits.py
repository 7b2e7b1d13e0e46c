"""How many messages a project sends, and how often one client may call an endpoint.

The rules are those of Supabase Auth (its `internal/api/apilimiter/apilimiter.go` and
`internal/ratelimit`). Unlike there, nothing is limited without a setting, and a client is told
apart by its address where no header is named.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Literal

from starlette.requests import Request

from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.error_codes import ErrorCode
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.rate_limit_settings import MessageRate, RateLimitSettings
from amphibase.rate_limits import client_of

MINUTE, FIVE_MINUTES, HOUR = 60, 300, 3600
BURST = 30
MAX_CLIENTS = 10_000
"""To make a count be forgotten takes as many other clients."""

MAX_CLIENT_CHARACTERS = 200

LimitedAction = Literal[
    "anonymous_users",
    "factor_challenge",
    "factor_verify",
    "magic_link",
    "otp",
    "recover",
    "resend",
    "sign_up",
    "sso",
    "token",
    "user",
    "verify",
    "web3",
]

LIMITED: Mapping[tuple[str, str], LimitedAction] = MappingProxyType(
    {
        ("POST", "/factors/{id}/challenge"): "factor_challenge",
        ("POST", "/factors/{id}/verify"): "factor_verify",
        ("POST", "/magiclink"): "magic_link",
        ("POST", "/otp"): "otp",
        ("POST", "/recover"): "recover",
        ("POST", "/resend"): "resend",
        ("POST", "/sso"): "sso",
        ("PUT", "/user"): "user",
        ("GET", "/verify"): "verify",
        ("POST", "/verify"): "verify",
    }
)
"""Endpoints whose requests all count; `/signup` and `/token` count by what is asked of them."""


class TokenBuckets:
    """A bucket of tokens for each client, which is full at first and refilled evenly.

    Args:
        per_second: tokens that come in.
        burst: tokens that a bucket holds.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> bool:
        """Take a token out of a client's bucket; return False where it is empty."""
        now = monotonic()
        tokens, filled_at = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - filled_at) * self._per_second)
        is_allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if is_allowed else tokens, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return is_allowed


class ClientRateLimiter:
    """Limits how often one client may call an endpoint, counted in the memory of the process."""

    def __init__(self, settings: RateLimitSettings) -> None:
        header = settings.rate_limit_header
        # What is first in `X-Forwarded-For` is the client's own word; the address is what trusted
        # proxies say.
        self._header = "" if header.lower() == "x-forwarded-for" else header
        self._buckets = dict(_buckets(settings))

    def check(self, action: LimitedAction, request: Request) -> None:
        """Count a request. Raises AuthError if the client made too many."""
        buckets = self._buckets.get(action)
        if buckets is not None and not buckets.take(self._client(request)):
            raise AuthError(codes.REQUEST_RATE_LIMIT)

    def _client(self, request: Request) -> str:
        named = request.headers.get(self._header, "") if self._header else ""
        if named:
            return named[:MAX_CLIENT_CHARACTERS]
        return client_of(request.client.host if request.client else None)


def _buckets(settings: RateLimitSettings) -> Iterator[tuple[LimitedAction, TokenBuckets]]:
    otp, mfa = settings.rate_limit_otp, settings.mfa_rate_limit_challenge_and_verify
    rates: tuple[tuple[LimitedAction, float | None, int], ...] = (
        ("factor_challenge", mfa, MINUTE),
        ("factor_verify", mfa, MINUTE),
        ("magic_link", otp, FIVE_MINUTES),
        ("otp", otp, FIVE_MINUTES),
        ("recover", otp, FIVE_MINUTES),
        ("resend", otp, FIVE_MINUTES),
        ("sign_up", otp, FIVE_MINUTES),
        ("sso", settings.rate_limit_sso, FIVE_MINUTES),
        ("token", settings.rate_limit_token_refresh, FIVE_MINUTES),
        ("user", otp, FIVE_MINUTES),
        ("verify", settings.rate_limit_verify, FIVE_MINUTES),
        ("web3", settings.rate_limit_web3, FIVE_MINUTES),
    )
    for action, count, seconds in rates:
        if count is not None:
            yield action, TokenBuckets(count / seconds, BURST)
    if (count := settings.rate_limit_anonymous_users) is not None:
        yield "anonymous_users", TokenBuckets(count / HOUR, int(count))


class MessageQuota:
    """Limits how many messages a project sends, to whomever.

    Args:
        rate: None for no limit.
        error: for one too many.
    """

    def __init__(self, rate: MessageRate | None, error: ErrorCode) -> None:
        self._is_allowed = None if rate is None else _counter(rate)
        self._error = error

    async def take(self) -> None:
        """Count a message that is due. Raises AuthError if there were too many."""
        if self._is_allowed is not None and not await self._is_allowed():
            raise AuthError(self._error)


def _counter(rate: MessageRate) -> Callable[[], Awaitable[bool]]:
    if rate.refill_seconds is not None:
        buckets = TokenBuckets(1 / rate.refill_seconds, rate.count)

        async def take() -> bool:
            return buckets.take("")

        return take
    from limits import RateLimitItemPerHour  # few projects have any
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    return partial(FixedWindowRateLimiter(MemoryStorage()).hit, RateLimitItemPerHour(rate.count))
