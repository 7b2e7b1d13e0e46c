"""How often clients may try something, as a setting writes it, and what counts as one client."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:  # commands do not wait for it
    from limits import RateLimitItem

CLIENT_PREFIX = 64
"""Bits of an IPv6 address that belong to one client, which has all of the network
(RFC 4291, section 2.5.1)."""


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


def client_of(ip: str | None) -> str:
    """Return what counts as one client: an IPv4 address, or a network of IPv6 (/64)."""
    try:
        address = ip_address(ip or "")
    except ValueError:
        return ip or ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), CLIENT_PREFIX), strict=False))
    return str(address)
