"""Rate limits on the doors that strangers knock at."""

import hashlib

from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import ConfigurationError as StorageConfigurationError
from limits.errors import StorageError
from limits.storage import storage_from_string

from amphibase.errors import ConfigurationError, TooManyRequests, Unavailable
from amphibase.models import utc_now
from amphibase.settings import Settings


class Gate:
    """Counts attempts by action and by who makes them, in memory or in Redis.

    Raises:
        ConfigurationError: the storage of `RATE_LIMIT_URL` cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._limits = settings.rate_limits
        url = settings.rate_limit_url.get_secret_value()
        options = {} if url.startswith("memory://") else {"implementation": "redispy"}
        try:
            storage = storage_from_string(f"async+{url}", wrap_exceptions=True, **options)
        except StorageConfigurationError:
            raise ConfigurationError(
                "RATE_LIMIT_URL: Redis needs its client, pip install 'amphibase[redis]'"
            ) from None
        self._limiter = MovingWindowRateLimiter(storage)

    async def pass_through(self, action: str, who: str) -> None:
        """Count an attempt.

        Args:
            action: one of `RateLimits.ACTIONS`.
            who: an address or a client; only its hash is kept.

        Raises:
            TooManyRequests: with the seconds until the next attempt may succeed.
            Unavailable: the storage cannot be reached.
        """
        limit = self._limits.get(action)
        if limit is None:
            return
        key = hashlib.sha256(who.lower().encode("utf-8", "surrogatepass")).hexdigest()
        try:
            if await self._limiter.hit(limit, action, key):
                return
            window = await self._limiter.get_window_stats(limit, action, key)
        except StorageError as error:
            raise Unavailable("The rate limits cannot be checked just now") from error
        seconds = max(1, round(window.reset_time - utc_now().timestamp()))
        raise TooManyRequests(retry_after=seconds)
