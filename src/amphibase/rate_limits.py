"""The limits on what clients may try how often, as a setting writes them."""

from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:  # commands do not wait for it
    from limits import RateLimitItem


class RateLimits(dict[str, "RateLimitItem"]):
    """The limit of each action.

    `sign-in` counts by address and client together, `sign-in-address` by address over all clients,
    `sign-in-client` by client over all addresses, `email-address` by the address that emails go
    to, and the others by client.
    """

    DEFAULTS: ClassVar[dict[str, str]] = {
        "sign-in": "10/minute",
        "sign-in-client": "60/minute",
        "sign-in-address": "600/hour",
        "sign-up": "60/minute",
        "forgot": "10/minute",
        "reset": "10/minute",
        "resend": "10/minute",
        "email-address": "20/hour",
        "oauth": "60/minute",
    }
    ACTIONS = tuple(DEFAULTS)
    DEFAULT = ", ".join(f"{action}={rate}" for action, rate in DEFAULTS.items())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `off` or `action=count/period, …`; an action that is not named keeps its default."""
        if text.strip().lower() == "off":
            return cls()
        from limits import parse

        limits = cls() if text == cls.DEFAULT else cls.parse(cls.DEFAULT)
        for part in filter(None, (part.strip() for part in text.split(","))):
            action, _, rate = part.partition("=")
            if action not in cls.ACTIONS:
                raise ValueError(f"the actions are {', '.join(cls.ACTIONS)}")
            if rate == "off":
                limits.pop(action, None)
                continue
            try:
                limits[action] = parse(rate)
            except ValueError:
                raise ValueError(f"{action} needs a rate such as 10/minute, or off") from None
        return limits
