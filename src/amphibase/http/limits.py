"""Rate limits of the routes that anonymous clients call."""

import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import ConfigurationError as StorageConfigurationError
from limits.errors import StorageError
from limits.storage import storage_from_string

from amphibase.errors import ConfigurationError, TooManyRequests, Unavailable
from amphibase.models import utc_now
from amphibase.rate_limits import client_of
from amphibase.redaction import redacted_logger
from amphibase.settings.application import Settings

logger = redacted_logger("amphibase.limits")


class RateLimiter:
    """Counts attempts by action and by who makes them, in memory or in Redis.

    Raises:
        ConfigurationError: the storage of `RATE_LIMIT_URL` cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._limits = settings.rate_limits
        url = settings.rate_limit_url.get_secret_value()
        is_shared = not url.startswith("memory://")
        options = {"implementation": "redispy"} if is_shared else {}
        try:
            storage = storage_from_string(f"async+{url}", wrap_exceptions=True, **options)
        except StorageConfigurationError:
            raise ConfigurationError(
                "RATE_LIMIT_URL: Redis needs its client, pip install 'amphibase[redis]'"
            ) from None
        self._limiter = MovingWindowRateLimiter(storage)
        if settings.environment == "production" and not is_shared and _has_other_workers():
            logger.warning(
                "Each worker counts the rate limits for itself, so that %s workers allow as many "
                "times more: set RATE_LIMIT_URL to a Redis that they share",
                os.environ.get("WEB_CONCURRENCY", "several"),
            )

    async def reach(self) -> None:
        """Reach the storage of the counts. Raises Unavailable."""
        with _translated():
            await self._limiter.storage.get("")

    async def check_sign_in(self, account: str, ip: str | None) -> None:
        """Count an attempt to guess a password, by account and client.

        An account is limited by client, so that another client cannot lock its owner out; far
        more loosely over all clients; and a client over all accounts.

        Args:
            account: an address or a user's id.
            ip: the client's address.

        Raises:
            TooManyRequests, Unavailable: as of `check`.
        """
        client = client_of(ip)
        await self.check("sign-in", account, client)
        await self.check("sign-in-client", client)
        await self.check("sign-in-address", account)

    async def check_email(self, action: str, email: str, ip: str | None) -> None:
        """Count a request for an email, by client and by address.

        Args:
            action: `forgot` or `resend`.
            ip: the client's address.

        Raises:
            TooManyRequests, Unavailable: as of `check`; whether or not the address has an account.
        """
        await self.check(action, client_of(ip))
        await self.check("email-address", email)

    async def check(self, action: str, *who: str) -> None:
        """Count an attempt.

        Args:
            action: one of `RateLimits.ACTIONS`.
            who: an address or a client or both; only their hash is stored.

        Raises:
            TooManyRequests: with the seconds until the next attempt may succeed.
            Unavailable: the storage cannot be reached.
        """
        limit = self._limits.get(action)
        if limit is None:
            return
        content = "\0".join(who).lower().encode("utf-8", "surrogatepass")
        key = hashlib.sha256(content).hexdigest()
        with _translated():
            if await self._limiter.hit(limit, action, key):
                return
            window = await self._limiter.get_window_stats(limit, action, key)
        seconds = max(1, round(window.reset_time - utc_now().timestamp()))
        raise TooManyRequests(retry_after=seconds)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise Unavailable("The rate limits cannot be checked just now") from error.storage_error


def _has_other_workers() -> bool:
    # Uvicorn's workers are children of the process that was started, and gunicorn's and Uvicorn's
    # number may come from the environment.
    concurrency = os.environ.get("WEB_CONCURRENCY", "")
    return multiprocessing.parent_process() is not None or (
        concurrency.isdigit() and int(concurrency) > 1
    )
