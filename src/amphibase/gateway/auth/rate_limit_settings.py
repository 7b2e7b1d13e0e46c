"""The limits of a project on its messages and on what one client requests, by the names that
Supabase Auth reads (`GOTRUE_RATE_LIMIT_…`)."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from amphibase.gateway.auth.durations import parse_duration
from amphibase.settings.loading import LoadedSettings

HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class MessageRate:
    """How many messages a project sends.

    Attributes:
        count: at once; in an hour where nothing is refilled.
        refill_seconds: after which one more is allowed, up to `count`.
    """

    count: int
    refill_seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `30`, for an hour, or `30/10m`. Raises ValueError, for people to read."""
        count, slash, duration = text.strip().partition("/")
        if not count.isdecimal():
            raise ValueError("must be a number of messages in an hour, such as 30, or 30/10m")
        if not slash:
            return cls(int(count))
        seconds = parse_duration(duration).total_seconds()
        return cls(int(count), seconds or HOUR_SECONDS)


def _message_rate(value: Any) -> Any:
    return MessageRate.parse(str(value)) if isinstance(value, int | str) else value


Messages = Annotated[MessageRate | None, NoDecode, BeforeValidator(_message_rate)]


def _per_client(period: str) -> Any:
    return Field(
        None,
        gt=0,
        allow_inf_nan=False,
        examples=["30"],
        description=f"requests of one client in {period}",
    )


class RateLimitSettings(LoadedSettings):
    """The limits of a project; one that is not set does not limit."""

    rate_limit_header: str = Field("", examples=["CF-Connecting-IP"])
    rate_limit_email_sent: Messages = Field(None, examples=["30"])
    rate_limit_sms_sent: Messages = Field(None, examples=["30"])
    rate_limit_anonymous_users: float | None = _per_client("an hour")
    rate_limit_otp: float | None = _per_client("5 minutes")
    rate_limit_sso: float | None = _per_client("5 minutes")
    rate_limit_token_refresh: float | None = _per_client("5 minutes")
    rate_limit_verify: float | None = _per_client("5 minutes")
    rate_limit_web3: float | None = _per_client("5 minutes")
    mfa_rate_limit_challenge_and_verify: float | None = _per_client("a minute")
