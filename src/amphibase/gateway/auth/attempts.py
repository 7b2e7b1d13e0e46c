"""Limits on wrong codes and on repeated messages, counted in the memory of the process."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import monotonic

from amphibase.column_defaults import utc_now
from amphibase.gateway.auth import error_codes as codes
from amphibase.gateway.auth.error_codes import ErrorCode
from amphibase.gateway.auth.errors import AuthError
from amphibase.gateway.auth.rate_limits import MessageQuota

MAX_WRONG, WRONG_SECONDS = 20, 3600
"""A million codes of six digits cannot be tried at this pace."""

WRONG = (
    codes.OTP_EXPIRED,
    codes.REAUTHENTICATION_NOT_VALID,
    codes.CURRENT_PASSWORD_INVALID,
    codes.MFA_VERIFICATION_FAILED,
    codes.MFA_PHONE_VERIFICATION_FAILED,
    codes.MFA_VERIFICATION_REJECTED,
)
"""What a wrong code is rejected with."""

MAX_COUNTED = 10_000
"""To make a count be forgotten takes as many attempts elsewhere."""


class AttemptLimiter:
    """Counts codes by what they are for, and stops their being guessed, one by one or many at
    once: each counts as wrong until it has turned out right."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    @contextmanager
    def counting(self, subject: str) -> Iterator[None]:
        """Try a code inside; it counts unless it is right or something else is rejected.

        Raises:
            AuthError: there were too many wrong ones in the last hour.
        """
        now = monotonic()
        recent = [time for time in self._wrong.get(subject, ()) if time > now - WRONG_SECONDS]
        if len(recent) >= MAX_WRONG:
            raise AuthError(codes.REQUEST_RATE_LIMIT)
        self._wrong[subject] = [*recent, now]
        self._wrong.move_to_end(subject)
        if len(self._wrong) > MAX_COUNTED:
            self._wrong.popitem(last=False)
        is_wrong = False
        try:
            yield
        except AuthError as error:
            is_wrong = error.error in WRONG
            raise
        finally:
            if not is_wrong and now in self._wrong.get(subject, ()):
                self._wrong[subject].remove(now)


class MessageLimiter:
    """Lets one message of a kind go to an address or number in a while, whether or not it has an
    account.

    Args:
        interval: the least time between two.
        error: for one that comes too soon.
        quota: of the project, which each message counts against.
    """

    def __init__(self, interval: timedelta, error: ErrorCode, quota: MessageQuota) -> None:
        self._error = error
        self._quota = quota
        self._interval = interval.total_seconds()
        self._sent: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def check(self, kind: str, recipient: str) -> None:
        """Count a message.

        Raises:
            AuthError: the last one went out only just now, or the project's quota is used up.
        """
        now, key = monotonic(), (kind, recipient)
        left = self._sent.get(key, now - self._interval) + self._interval - now
        if left > 0:
            raise too_soon(left, self._error)
        self._sent[key] = now
        self._sent.move_to_end(key)
        if len(self._sent) > MAX_COUNTED:
            self._sent.popitem(last=False)
        await self._quota.take()


def seconds_left(sent_at: datetime | None, interval: timedelta) -> float:
    """Return how long to wait after a message; zero or less where it was long ago."""
    return 0 if sent_at is None else (sent_at + interval - utc_now()).total_seconds()


def check_interval(sent_at: datetime | None, interval: timedelta, error: ErrorCode) -> None:
    """Raise AuthError if the last message to a user went out only just now."""
    if (seconds := seconds_left(sent_at, interval)) > 0:
        raise too_soon(seconds, error)


def too_soon(seconds: float, error: ErrorCode) -> AuthError:
    """Return the error for a message that has to wait.

    Args:
        seconds: how long; whole ones are shown, as by Supabase Auth.
    """
    return AuthError(
        error,
        f"For security purposes, you can only request this after {int(seconds)} seconds.",
    )
